//! JSON messages that cannot arrive in pieces: `cargo run -p nigh-socket --example json_messages`.
//!
//! One packet is one message: no length in front, no line to look for, nothing to put together. A message longer than the
//! reader takes is an error with its true length, and the next one is whole again.

use std::error::Error;
use std::io::IoSlice;

use nigh_socket::blocking::UnixSeqpacket;
use nigh_socket::{Received, RecvError};
use serde_json::{Value, json};

/// Longest message that the reader takes.
const MESSAGE_BYTES_MAX: usize = 1000;

fn send(socket: &UnixSeqpacket, message: &Value) -> Result<(), Box<dyn Error>> {
    let text = serde_json::to_vec(message)?;
    Ok(socket.send(&[IoSlice::new(&text)], &[])?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (writer, reader) = UnixSeqpacket::pair()?;
    // All are written before the first is read.
    send(&writer, &json!({"id": 1, "text": "first\nwith a line end"}))?;
    send(&writer, &json!({"id": 2, "text": "x".repeat(5000)}))?;
    send(&writer, &json!({"id": 3, "list": [1, 2, 3]}))?;
    drop(writer);

    let mut buffer = [0; MESSAGE_BYTES_MAX];
    let mut ids = Vec::new();
    loop {
        let packet = match reader.recv(&mut buffer) {
            Ok(Received::Packet(packet)) => packet,
            Ok(Received::End) => break,
            Err(RecvError::TooLong { length, room }) => {
                println!("refused: {length} bytes, at most {room} are taken");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let message: Value = serde_json::from_slice(&buffer[..packet.length])?;
        println!("whole: {message}");
        ids.push(message["id"].clone());
    }
    if ids != [1, 3] {
        return Err("every message that fits comes, whole and in order".into());
    }
    Ok(())
}
