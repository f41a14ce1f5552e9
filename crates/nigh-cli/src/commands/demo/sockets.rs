//! The rows of the demonstration that need no RPC: plain sockets of every kind.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nigh_socket::blocking::{MessageSocket, UnixDatagram, UnixSeqpacket};
use nigh_socket::{
    Address, ConnectOptions, Listener, MemoryFile, SealedFile, connect, introspect, user_name,
};
use tonic::Status;

use super::Done;
use super::stage::Stage;
use crate::duration;
use crate::error::Failure;

/// Messages there and back of which the median is shown.
const ROUNDS: usize = 300;
/// Bytes of each.
const MESSAGE: [u8; 64] = [0; 64];
/// Pings that are written before the first is read.
const PINGS: usize = 3;

/// A small message there and back on each kind of socket, between two threads.
pub(super) async fn round_trips(_: &Stage) -> Result<Done, Failure> {
    let measured = tokio::task::spawn_blocking(|| -> Result<[Duration; 3], io::Error> {
        let (a, b) = UnixStream::pair()?;
        let stream = stream_rounds(a, b)?;
        let (a, b) = UnixSeqpacket::pair()?;
        let packets = message_rounds(a, b)?;
        let (a, b) = UnixDatagram::pair()?;
        Ok([stream, packets, message_rounds(a, b)?])
    });
    let [stream, packets, datagrams] = measured.await.map_err(io::Error::other)??;
    Ok(Done {
        caller: String::new(),
        result: format!(
            "stream {}, seqpacket {}, dgram {}; medians of {ROUNDS}",
            duration::show(stream),
            duration::show(packets),
            duration::show(datagrams)
        ),
        time: packets,
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn stream_rounds(mut a: UnixStream, mut b: UnixStream) -> io::Result<Duration> {
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let mut message = MESSAGE;
        for _ in 0..ROUNDS {
            b.read_exact(&mut message)?;
            b.write_all(&message)?;
        }
        Ok(())
    });
    let mut times = Vec::with_capacity(ROUNDS);
    let mut answer = MESSAGE;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        a.write_all(&MESSAGE)?;
        a.read_exact(&mut answer)?;
        times.push(start.elapsed());
    }
    joined(echo)?;
    Ok(median(times))
}

fn message_rounds<S: MessageSocket>(a: S, b: S) -> io::Result<Duration> {
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let mut message = MESSAGE;
        for _ in 0..ROUNDS {
            b.recv_message(&mut message)?;
            b.send_message(&[IoSlice::new(&message)], &[])?;
        }
        Ok(())
    });
    let mut times = Vec::with_capacity(ROUNDS);
    let mut answer = MESSAGE;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        a.send_message(&[IoSlice::new(&MESSAGE)], &[])?;
        a.recv_message(&mut answer)?;
        times.push(start.elapsed());
    }
    joined(echo)?;
    Ok(median(times))
}

fn joined(echo: std::thread::JoinHandle<io::Result<()>>) -> io::Result<()> {
    echo.join()
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// Three pings before the first read: a stream has no boundaries, messages have.
pub(super) async fn three_pings(_: &Stage) -> Result<Done, Failure> {
    let start = Instant::now();
    let (mut a, mut b) = UnixStream::pair()?;
    for _ in 0..PINGS {
        a.write_all(b"ping")?;
    }
    let length = b.read(&mut [0; 64])?;
    let whole = length / b"ping".len();
    let (a, b) = UnixSeqpacket::pair()?;
    let packets = pings(&a, &b)?;
    let (a, b) = UnixDatagram::pair()?;
    let datagrams = pings(&a, &b)?;
    if (whole, packets, datagrams) != (PINGS, PINGS, PINGS) {
        return Err(Status::internal("a message was cut or joined").into());
    }
    Ok(Done {
        caller: String::new(),
        result: format!(
            "1 read of {length} bytes on a stream, {packets} packets, {datagrams} datagrams"
        ),
        time: start.elapsed(),
    })
}

fn pings(a: &impl MessageSocket, b: &impl MessageSocket) -> Result<usize, io::Error> {
    for _ in 0..PINGS {
        a.send_message(&[IoSlice::new(b"ping")], &[])?;
    }
    let mut whole = 0;
    for _ in 0..PINGS {
        let received = b.recv_message(&mut [0; 64])?.into_packet();
        whole += usize::from(received.is_some_and(|packet| packet.length == b"ping".len()));
    }
    Ok(whole)
}

/// A packet with a sealed file, and the kernel's word on who wrote it.
pub(super) async fn sealed_file(_: &Stage) -> Result<Done, Failure> {
    let start = Instant::now();
    let (a, b) = UnixSeqpacket::pair()?;
    b.set_pass_credentials(true)?;
    let mut file = MemoryFile::create("nigh demo")?;
    file.write_all(&vec![7; 1 << 20])?;
    let sealed = file.seal()?;
    a.send(&[IoSlice::new(b"a file")], &[sealed.as_fd()])
        .map_err(io::Error::from)?;
    let packet = b.recv(&mut [0; 64]).map_err(io::Error::from)?.into_packet();
    let mut packet = packet.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let fd = packet
        .fds
        .pop()
        .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let mapped = SealedFile::verify(fd).map_err(io::Error::other)?.map()?;
    let time = start.elapsed();
    let sender = packet
        .sender
        .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let name = sender.uid().value().and_then(|uid| user_name(*uid).ok()?);
    let name = name.map_or_else(String::new, |name| format!(" ({name})"));
    Ok(Done {
        caller: format!("uid {}{name} pid {}", sender.uid(), sender.pid()),
        result: format!(
            "{} bytes that nobody can change any more, mapped",
            mapped.len()
        ),
        time,
    })
}

/// A server whose name nobody knew before.
pub(super) async fn published(stage: &Stage) -> Result<Done, Failure> {
    let file = stage.folder().join("address");
    let start = Instant::now();
    let listener = Listener::options().publish(&file).bind("autobind:")?;
    let options = ConnectOptions::default().wait(false);
    let (_stream, server) = connect(&Address::Published(file.clone()), &options).await?;
    let time = start.elapsed();
    let address = listener.address().to_string();
    listener.close().map_err(io::Error::other)?;
    if file.exists() {
        return Err(Status::internal("the file was left behind").into());
    }
    Ok(Done {
        caller: String::new(),
        result: format!("{address}, by {}", server.with_names()),
        time,
    })
}

/// Who is connected to the demonstration's server.
pub(super) async fn peers(stage: &Stage) -> Result<Done, Failure> {
    let start = Instant::now();
    let found = introspect::peers(stage.address())?;
    let time = start.elapsed();
    let server = Some(stage.pid());
    let both = found.connections.iter().filter(|connection| {
        let pid = |end: &Option<introspect::EndInfo>| {
            end.as_ref()
                .and_then(|end| end.owners.first())
                .map(|owner| owner.pid)
        };
        pid(&connection.server) == server && pid(&connection.client) == Some(std::process::id())
    });
    let both = both.count();
    if both == 0 {
        return Err(Status::internal("our own connections are not listed").into());
    }
    Ok(Done {
        caller: String::new(),
        result: format!("{both} connections, both ends known"),
        time,
    })
}
