//! An echo over each kind of socket: `cargo run -p nigh-socket --example echo_kinds`.

use std::error::Error;
use std::io::IoSlice;

use nigh_socket::{
    Acceptor, Address, ConnectOptions, Listener, MessageSocket, Policy, SocketKind, Transport,
    UnixDatagram, connect, connect_packet,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = ConnectOptions::default();

    let (mut server, address) = listen(SocketKind::Stream)?;
    let (mut client, _) = connect(&address, &options).await?;
    client.write_all(b"some bytes").await?;
    client.shutdown().await?;
    if let Transport::Stream(mut caller) = admitted(&mut server).await? {
        let mut bytes = Vec::new();
        caller.read_to_end(&mut bytes).await?;
        caller.write_all(&bytes).await?;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    println!("stream: {answer}");

    let (mut server, address) = listen(SocketKind::Seqpacket)?;
    let (client, _) = connect_packet(&address, &options).await?;
    if let Transport::Packet(caller) = admitted(&mut server).await? {
        println!("seqpacket: {}", echoed(&client, &caller).await?);
    }

    let (client, server) = (UnixDatagram::autobound()?, UnixDatagram::autobound()?);
    client.connect(&server.local_address()?.ok_or("no name")?)?;
    server.connect(&client.local_address()?.ok_or("no name")?)?;
    println!("dgram: {}", echoed(&client, &server).await?);
    Ok(())
}

/// Listens under a name that the kernel picks.
fn listen(kind: SocketKind) -> Result<(Acceptor, Address), Box<dyn Error>> {
    let listener = Listener::options().kind(kind).bind("autobind:")?;
    let address = listener.address().clone();
    Ok((Acceptor::new(listener)?, address))
}

async fn admitted(server: &mut Acceptor) -> Result<Transport, Box<dyn Error>> {
    let caller = server.accept().await?.admit(&Policy::same_user());
    let caller = caller.map_err(|refused| refused.refusal.to_string())?;
    Ok(caller.into_parts().0)
}

/// A message there and back: written once for packets and datagrams.
async fn echoed<S: MessageSocket>(client: &S, server: &S) -> Result<String, Box<dyn Error>> {
    let mut buffer = [0; 4096];
    let message = [IoSlice::new(b"one message")];
    client.send_message(&message, &[]).await?;
    let packet = server.recv_message(&mut buffer).await?.into_packet();
    let came = &buffer[..packet.ok_or("the end")?.length];
    server.send_message(&[IoSlice::new(came)], &[]).await?;
    let packet = client.recv_message(&mut buffer).await?.into_packet();
    let came = &buffer[..packet.ok_or("the end")?.length];
    Ok(String::from_utf8_lossy(came).into_owned())
}
