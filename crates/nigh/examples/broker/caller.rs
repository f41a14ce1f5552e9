//! A caller of the broker: it gets what the policy allows, and is told why not otherwise.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use nigh::{Channel, DescriptorsExt as _, FdLimits};
use nigh_testkit::service::proto::Wish;
use nigh_testkit::service::proto::broker_client::BrokerClient;
use nigh_testkit::service::proto::wish::Wish as Kind;
use tonic::Status;

use crate::Fault;

async fn ask(client: &mut BrokerClient<Channel>, wish: Kind) -> Result<OwnedFd, Status> {
    let reply = client.give(Wish { wish: Some(wish) }).await?;
    Ok(reply.take_fd(reply.get_ref().fd)?)
}

pub(crate) async fn call(socket: &str) -> Result<(), Fault> {
    let options = Channel::options().descriptors(FdLimits::default());
    let channel = options.connect(format!("unix:{socket}").as_str()).await?;
    let mut client = BrokerClient::new(channel);
    let file = ask(&mut client, Kind::Open("notes.txt".into())).await?;
    let content = std::io::read_to_string(File::from(file))?;
    println!("the file says: {content}");
    let port = TcpListener::from(ask(&mut client, Kind::Bind(0)).await?);
    println!("listening on {}", port.local_addr()?);
    // What this process may perhaps not bind itself, nor the helper unless it is privileged.
    match ask(&mut client, Kind::Bind(81)).await {
        Ok(port) => println!("listening on {}", TcpListener::from(port).local_addr()?),
        Err(status) => println!("port 81: {}", status.message()),
    }
    for wish in [
        Kind::Open("../etc/shadow".into()),
        Kind::Open("way-out".into()),
        Kind::Open(".".into()),
        Kind::Bind(22),
        Kind::Bind(70_000),
    ] {
        match ask(&mut client, wish.clone()).await {
            Ok(_) => return Err(format!("{wish:?}: it should have been refused").into()),
            Err(status) => println!("{wish:?}: {}", status.message()),
        }
    }
    Ok(())
}
