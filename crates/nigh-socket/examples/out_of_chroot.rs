//! An abstract socket reached from inside a chroot: `cargo run -p nigh-socket --example out_of_chroot`, as root.
//!
//! Abstract names belong to the network namespace, not to the file system: a chroot does not keep anybody from them, and
//! neither do permissions. So the server asks who calls; and a path is no way out.

use std::error::Error;
use std::os::unix::fs::chroot;

use nigh_socket::spawn::Spawn;
use nigh_socket::{Acceptor, Address, ConnectOptions, Listener, Policy, blocking};
use nigh_testkit::{TempSocket, is_root};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [root, name, path] = arguments.as_slice() {
        return inside(root, name, path);
    }
    if !is_root() {
        println!("left out: only root may change its root directory");
        return Ok(());
    }
    let (jail, place) = (TempSocket::private(), TempSocket::private());
    let options = Listener::options().kind(nigh_socket::SocketKind::Seqpacket);
    let file = options.bind(place.path())?;
    let listener = options.bind("autobind:")?;
    let (name, path) = (listener.address().to_string(), file.address().to_string());
    let mut server = Acceptor::new(listener)?;
    let root = jail.directory().display().to_string();
    let program = std::env::current_exe()?;
    let (child, _line) = Spawn::new(program).args([root, name, path]).spawn()?;
    let incoming = server.accept().await?;
    let caller = incoming.admit(&Policy::same_user());
    let caller = caller.map_err(|refused| refused.refusal.to_string())?;
    println!("outside: {} came out of the chroot", caller.peer());
    let status = child.exited().await?;
    status.success().then_some(()).ok_or("the child failed")?;
    Ok(())
}

/// What runs with an empty directory as its root.
fn inside(root: &str, name: &str, path: &str) -> Result<(), Box<dyn Error>> {
    chroot(root)?;
    std::env::set_current_dir("/")?;
    let options = ConnectOptions::default().wait(false);
    let (name, path): (Address, Address) = (name.parse()?, path.parse()?);
    match blocking::connect_packet(&path, &options) {
        Err(error) => println!("inside: {error}"),
        Ok(_) => return Err("the path led out of the chroot".into()),
    }
    let (_socket, server) = blocking::connect_packet(&name, &options)?;
    println!("inside: reached {server}");
    Ok(())
}
