//! An end written from docs/wire/nigh.md alone: frames by hand over a plain socket. What an honest client never sends is
//! refused with its reason, and other calls go on. Numbers in brackets are clauses.

use std::io::IoSlice;
use std::os::fd::{AsFd as _, OwnedFd};

use nigh::FdLimits;
use nigh_socket::UnixStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::Receiver;

use super::service::{NAME, named, serve};
use crate::common::Served;

const HEADERS: u8 = 1;
const DATA: u8 = 2;
const TRAILERS: u8 = 3;
const GOAWAY: u8 = 6;
const PING: u8 = 7;
const FDS: u8 = 9;
const END: u8 = 1;

const OK: u32 = 0;
const RESOURCE_EXHAUSTED: u32 = 8;
const FAILED_PRECONDITION: u32 = 9;
const INTERNAL: u32 = 13;

/// Which features, and how many bytes, a greeting has [2.3].
fn greeting(features: u32, length: u16) -> Vec<u8> {
    let mut bytes = b"\0nigh\r\n\x1a\x01\0".to_vec();
    bytes.extend(length.to_le_bytes());
    for word in [features, 1 << 18, 1 << 16, 1 << 22, 1 << 23, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    // Descriptors in one frame [13.1].
    bytes.extend([64, 0, 0, 0]);
    bytes.truncate(length.into());
    bytes
}

/// A frame [3.1].
fn frame(kind: u8, flags: u8, stream: u32, count: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(content.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(stream.to_le_bytes());
    bytes.extend([kind, flags]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(content);
    bytes
}

/// [13.3]
fn fds(stream: u32, count: u16, first: u32, loss: u8) -> Vec<u8> {
    let content = [&first.to_le_bytes()[..], &[loss]].concat();
    frame(FDS, 0, stream, count, &content)
}

/// HEADERS and DATA of a unary call to a method of the test service [5.1].
fn call(stream: u32, method: &str, data: &[u8]) -> Vec<u8> {
    let path = format!("/{NAME}/{method}");
    let mut head = vec![0, u8::try_from(path.len()).unwrap()];
    head.extend(path.as_bytes());
    let mut bytes = frame(HEADERS, 0, stream, 0, &head);
    // gRPC's prefix, then protobuf's field 1.
    let message = [&[0x0a, u8::try_from(data.len()).unwrap()], data].concat();
    let length = u32::try_from(message.len()).unwrap();
    let body = [&[0][..], &length.to_be_bytes(), &message].concat();
    bytes.extend(frame(DATA, END, stream, 0, &body));
    bytes
}

/// What `echo` of the mirror is to give back: these indices.
fn mention(indices: &[u32]) -> Vec<u8> {
    let count = u32::try_from(indices.len()).unwrap();
    let words = std::iter::once(&count).chain(indices);
    words.flat_map(|word| word.to_le_bytes()).collect()
}

fn files(count: usize) -> Vec<OwnedFd> {
    (0..count)
        .map(|number| named(&number.to_string()))
        .collect()
}

struct Peer {
    socket: UnixStream,
    came: Vec<u8>,
    fds: Vec<OwnedFd>,
    calls: u32,
}

impl Peer {
    async fn connect(served: &Served) -> Self {
        let connected = std::os::unix::net::UnixStream::connect(served.socket.path()).unwrap();
        connected.set_nonblocking(true).unwrap();
        let mut socket = UnixStream::new(connected.into()).unwrap();
        socket.write_all(&greeting(1, 44)).await.unwrap();
        let mut theirs = [0; 44];
        socket.read_exact(&mut theirs).await.unwrap();
        assert_eq!(theirs[12], 1, "[13.1]");
        Self {
            socket,
            came: Vec::new(),
            fds: Vec::new(),
            calls: 0,
        }
    }

    fn next(&mut self) -> u32 {
        self.calls += 1;
        self.calls << 16
    }

    /// One `sendmsg`; before the server, which is on the same thread, sees anything of it.
    fn send(&self, bytes: &[u8], fds: &[OwnedFd]) {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let sent = self.socket.try_send_with_fds(&[IoSlice::new(bytes)], &fds);
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// The next frame: kind, stream and content; `None` at the end.
    async fn receive(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            if let Some(head) = self.came.first_chunk::<12>() {
                let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
                let stream = u32::from_le_bytes(head[4..8].try_into().unwrap());
                let kind = head[8];
                if self.came.len() >= 12 + length {
                    let rest = self.came.split_off(12 + length);
                    let content = std::mem::replace(&mut self.came, rest).split_off(12);
                    return Some((kind, stream, content));
                }
            }
            let mut buffer = [0; 4096];
            let chunk = self.socket.recv_with_fds(&mut buffer).await.ok()?;
            if chunk.length == 0 {
                return None;
            }
            self.came.extend(&buffer[..chunk.length]);
            self.fds.extend(chunk.fds);
        }
    }

    /// The status of a call and its text.
    async fn status(&mut self, stream: u32) -> (u32, String) {
        loop {
            let (kind, its, content) = self.receive().await.unwrap();
            if its != stream || !matches!(kind, HEADERS | TRAILERS) {
                continue;
            }
            let fields = fields(&content);
            let value = |number| fields.iter().find(|(its, _)| *its == number);
            match value(7) {
                None if kind == TRAILERS => return (OK, String::new()),
                None => {}
                Some((_, code)) => {
                    let text = value(8).map(|(_, text)| text.replace("%20", " "));
                    return (code.parse().unwrap(), text.unwrap_or_default());
                }
            }
        }
    }

    /// A call that is as it should be.
    async fn goes_on(&mut self) {
        let stream = self.next();
        let bytes = [fds(stream, 1, 0, 0), call(stream, "Echo", &mention(&[0]))].concat();
        self.send(&bytes, &files(1));
        let before = self.fds.len();
        assert_eq!(self.status(stream).await.0, OK);
        assert_eq!(self.fds.len(), before + 1);
    }

    /// The goodbye that ends the connection.
    async fn goodbye(mut self) -> String {
        while let Some((kind, _, content)) = self.receive().await {
            if kind == GOAWAY {
                assert_eq!(content[0], 1, "[11.2]");
                return String::from_utf8(content[4..].to_vec()).unwrap();
            }
        }
        panic!("an end without a GOAWAY");
    }
}

/// Metadata with names from the table [7.3]; others are left out.
fn fields(mut content: &[u8]) -> Vec<(u8, String)> {
    let mut found = Vec::new();
    while let Some((number, rest)) = content.split_first() {
        let (text, rest) = bytes(rest);
        let (value, rest) = if *number == 0 {
            bytes(rest)
        } else {
            (text, rest)
        };
        if *number != 0 {
            found.push((*number, String::from_utf8(value.to_vec()).unwrap()));
        }
        content = rest;
    }
    found
}

/// [7.1, 7.2]
fn bytes(content: &[u8]) -> (&[u8], &[u8]) {
    let (mut length, mut at) = (0, 0);
    loop {
        length |= usize::from(content[at] & 0x7f) << (7 * at);
        at += 1;
        if content[at - 1] & 0x80 == 0 {
            return content[at..].split_at(length);
        }
    }
}

#[tokio::test]
async fn a_call_and_its_files_go_in_one_message_and_come_back() {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut peer = Peer::connect(&served).await;
    let stream = peer.next();
    let message = call(stream, "Echo", &mention(&[0, 1, 2]));
    // Two frames before HEADERS [13.5], the second in a message of its own.
    peer.send(&fds(stream, 1, 0, 0), &files(1));
    peer.send(&[fds(stream, 2, 1, 0), message].concat(), &files(2));
    assert_eq!(peer.status(stream).await, (OK, String::new()));
    assert_eq!(peer.fds.len(), 3);
    served.stop().await;
}

#[tokio::test]
async fn what_does_not_agree_fails_its_call_by_name() {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut peer = Peer::connect(&served).await;
    for (frames, came, code, words) in [
        (
            vec![(3, 0, 0)],
            2,
            INTERNAL,
            "3 descriptors were announced and 2 came",
        ),
        (vec![(1, 0, 0)], 2, INTERNAL, "announced"),
        (vec![(1, 1, 0)], 1, INTERNAL, "announced"),
        (vec![(1, 0, 1)], 0, RESOURCE_EXHAUSTED, "ETOOMANYREFS"),
        (vec![(1, 0, 2)], 0, FAILED_PRECONDITION, "EPERM"),
        (vec![(1, 0, 77)], 0, RESOURCE_EXHAUSTED, "refused to pass"),
        (
            vec![(65, 0, 0)],
            65,
            RESOURCE_EXHAUSTED,
            "limit of 64 descriptors in one message",
        ),
    ] {
        let stream = peer.next();
        let mut bytes = Vec::new();
        for (count, first, loss) in frames {
            bytes.extend(fds(stream, count, first, loss));
        }
        bytes.extend(call(stream, "Echo", &mention(&[])));
        peer.send(&bytes, &files(came));
        let (status, text) = peer.status(stream).await;
        assert_eq!(status, code, "{text} [13.9]");
        assert!(text.contains(words), "{text} [13.9]");
        peer.goes_on().await;
    }
    assert_eq!(served.counts().connections_admitted, 1);
    served.stop().await;
}

#[tokio::test]
async fn a_loss_takes_nobody_elses_files() {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut peer = Peer::connect(&served).await;
    let (lost, good) = (peer.next(), peer.next());
    // The kernel gives all of this in one reception.
    let first = [fds(lost, 1, 0, 1), call(lost, "Echo", &mention(&[]))].concat();
    peer.send(&first, &[]);
    let second = [fds(good, 1, 0, 0), call(good, "Echo", &mention(&[0]))].concat();
    peer.send(&second, &files(1));
    assert_eq!(peer.status(lost).await.0, RESOURCE_EXHAUSTED);
    assert_eq!(peer.status(good).await.0, OK);
    served.stop().await;
}

#[tokio::test]
async fn files_without_a_call_are_closed_at_once() {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut peer = Peer::connect(&served).await;
    let over = peer.next();
    peer.send(&call(over, "Echo", &mention(&[])), &[]);
    peer.status(over).await;
    let ping = frame(PING, 0, 0, 0, b"12345678");
    let never = peer.next();
    for (bytes, clause) in [
        (fds(over, 1, 0, 0), "of a call that is over [13.5]"),
        (
            [fds(never, 1, 0, 0), ping.clone()].concat(),
            "of no call [13.5]",
        ),
        (ping, "which nothing announced [13.6]"),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        peer.send(&bytes, &[writer.into()]);
        let mut witness = Receiver::from_owned_fd(reader.into()).unwrap();
        let mut byte = [0];
        let closed =
            tokio::time::timeout(std::time::Duration::from_secs(9), witness.read(&mut byte));
        assert_eq!(closed.await.expect(clause).unwrap(), 0, "{clause}");
    }
    peer.goes_on().await;
    served.stop().await;
}

#[tokio::test]
async fn what_breaks_the_rules_ends_the_connection() {
    let (served, _) = serve(FdLimits::default(), |server| server);
    for (bytes, words) in [
        (fds(1 << 16, 0, 0, 0), "0 descriptors"),
        (fds(1 << 16, 254, 0, 0), "254 descriptors"),
        (fds(1 << 16, 1, u32::MAX, 1), "too large"),
        (frame(FDS, 0, 1 << 16, 1, &[0; 4]), "4 bytes"),
        (frame(FDS, 0, 0, 1, &[0; 5]), "stream 0"),
        (frame(DATA, 0, 1 << 16, 1, &[]), "1 descriptors"),
    ] {
        let peer = Peer::connect(&served).await;
        peer.send(&bytes, &[]);
        let said = peer.goodbye().await;
        assert!(said.contains(words), "{said} [13.3]");
    }
    // Bit 0 in a greeting that has no room for what it says [2.5].
    let connected = std::os::unix::net::UnixStream::connect(served.socket.path()).unwrap();
    connected.set_nonblocking(true).unwrap();
    let mut socket = UnixStream::new(connected.into()).unwrap();
    socket.write_all(&greeting(1, 40)).await.unwrap();
    let mut said = Vec::new();
    let _reset_or_closed = socket.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"\0nigh"), "{said:?}");
    served.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_none_says_so_and_closes_them() {
    let served = Served::plain();
    let connected = std::os::unix::net::UnixStream::connect(served.socket.path()).unwrap();
    connected.set_nonblocking(true).unwrap();
    let mut socket = UnixStream::new(connected.into()).unwrap();
    socket.write_all(&greeting(1, 44)).await.unwrap();
    let mut theirs = [0; 44];
    socket.read_exact(&mut theirs).await.unwrap();
    assert_eq!((theirs[12], theirs[40]), (1, 0), "[13.11]");
    served.stop().await;
}
