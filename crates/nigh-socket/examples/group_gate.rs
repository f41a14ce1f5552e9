//! A server for the members of a group, whoever they are: `cargo run -p nigh-socket --example group_gate`.
//!
//! The kernel says which groups a caller has, and the policy decides on that before a byte is read. The file's mode opens
//! the way to it; the policy is the gate.

use std::error::Error;
use std::os::unix::net::UnixStream;

use nigh_socket::{Acceptor, Address, Incoming, Listener, LocalPeer, Policy};
use nigh_testkit::TempSocket;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = TempSocket::private();
    let listener = Listener::options().mode(0o660).bind(place.path())?;
    println!("listening on {}", listener.address());
    let mut server = Acceptor::new(listener)?;

    let (ours, theirs) = groups()?;
    let members = Policy::gid(ours);
    let others = Policy::gid(theirs);
    for policy in [members, others] {
        let incoming = call(&mut server, &place.address().parse()?).await?;
        println!("{} calls", incoming.peer().with_names());
        match incoming.admit(&policy) {
            Ok(connection) => println!("  {policy}: admitted, {}", connection.peer()),
            // One line that says which term failed and on which fact.
            Err(refused) => println!("  {policy}: {}", refused.refusal),
        }
    }
    Ok(())
}

async fn call(server: &mut Acceptor, address: &Address) -> Result<Incoming, Box<dyn Error>> {
    let Address::Path(path) = address else {
        return Err("a path".into());
    };
    let _client = UnixStream::connect(path)?;
    Ok(server.accept().await?)
}

/// A group that this process is in, and one that it is not in.
fn groups() -> Result<(u32, u32), Box<dyn Error>> {
    let (ours, _) = UnixStream::pair()?;
    let me = LocalPeer::of(&ours)?;
    let gid = *me.gid().value().ok_or("the kernel knows")?;
    let mut all = me.groups().value().cloned().unwrap_or_default();
    all.push(gid);
    let other = (60_000..).find(|group| !all.contains(group));
    Ok((gid, other.ok_or("there is always one")?))
}
