//! Three pings written before the first read, and how many reads they take on each kind of socket.
//!
//! `cargo run -p nigh-socket --example three_pings`. A stream has no boundaries: what was written in three goes comes in
//! one. Packets and datagrams come as they were sent, however many are waiting.

use std::error::Error;
use std::io::{IoSlice, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use nigh_socket::blocking::{MessageSocket, UnixDatagram, UnixSeqpacket};

const PINGS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut a, mut b) = UnixStream::pair()?;
    for _ in 0..PINGS {
        a.write_all(b"ping")?;
    }
    let (mut reads, mut bytes, mut buffer) = (0, 0, [0; 64]);
    while bytes < PINGS * b"ping".len() {
        bytes += b.read(&mut buffer)?;
        reads += 1;
    }
    println!("stream:    {PINGS} pings in {reads} read");
    if reads != 1 {
        return Err("a stream on one machine gives all that waits at once".into());
    }

    let (a, b) = UnixSeqpacket::pair()?;
    println!("seqpacket: {PINGS} pings in {} reads", messages(&a, &b)?);
    let (a, b) = UnixDatagram::pair()?;
    println!("dgram:     {PINGS} pings in {} reads", messages(&a, &b)?);
    Ok(())
}

/// Written once for both kinds of messages.
fn messages(a: &impl MessageSocket, b: &impl MessageSocket) -> Result<usize, Box<dyn Error>> {
    for _ in 0..PINGS {
        a.send_message(&[IoSlice::new(b"ping")], &[])?;
    }
    let (mut reads, mut buffer) = (0, [0; 64]);
    while reads < PINGS {
        let packet = b
            .recv_message(&mut buffer)?
            .into_packet()
            .ok_or("the end")?;
        reads += 1;
        if &buffer[..packet.length] != b"ping" {
            return Err("a message is never cut or joined".into());
        }
    }
    Ok(reads)
}
