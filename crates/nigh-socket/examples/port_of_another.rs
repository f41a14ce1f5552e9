//! A port bound by one process and served by another: `cargo run -p nigh-socket --example port_of_another`.
//!
//! The parent binds, and may do what only it may: a low port, say. The child, which need not be allowed to, gets the
//! listening socket over its private line. Callers that came before it was handed over are served, too.

use std::error::Error;
use std::io::{IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;

use nigh_socket::blocking::UnixSeqpacket;
use nigh_socket::spawn::{Spawn, from_parent};
use nigh_socket::{Address, Listener, fdcheck};

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("child") => child(),
        _ => parent(),
    }
}

fn parent() -> Result<(), Box<dyn Error>> {
    let listener = Listener::options().bind("tcp:127.0.0.1:0")?;
    let Address::Tcp { port, .. } = *listener.address() else {
        return Err("TCP".into());
    };
    let early = TcpStream::connect(("127.0.0.1", port))?;
    let (child, line) = Spawn::new(std::env::current_exe()?).arg("child").spawn()?;
    let line = UnixSeqpacket::new(line.into())?;
    line.send(&[IoSlice::new(b"yours")], &[listener.as_fd()])?;
    // From here on the child alone has it.
    drop(listener);
    for mut caller in [early, TcpStream::connect(("127.0.0.1", port))?] {
        let mut answer = String::new();
        caller.read_to_string(&mut answer)?;
        println!("port {port}, bound by {}: {answer}", std::process::id());
        if answer != format!("served by {}", child.pid()) {
            return Err("somebody else answered".into());
        }
    }
    println!("child: {}", child.wait()?);
    Ok(())
}

fn child() -> Result<(), Box<dyn Error>> {
    let line = UnixSeqpacket::new(from_parent()?.into())?;
    let mut buffer = [0; 16];
    let mut packet = line.recv(&mut buffer)?.into_packet().ok_or("it left")?;
    let socket = packet.fds.pop().ok_or("no socket came")?;
    // What arrives is looked at before it is used.
    fdcheck::require_listening(&socket, nigh_socket::SocketKind::Stream)?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(false)?;
    for _ in 0..2 {
        let (mut caller, _) = listener.accept()?;
        write!(caller, "served by {}", std::process::id())?;
    }
    Ok(())
}
