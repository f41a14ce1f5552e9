//! HTTP/2 by hand, for callers that do what no library would (RFC 9113 4, RFC 7541 6.2.2).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
/// No frame has this type, so it is ignored (RFC 9113 5.5).
pub(crate) const UNKNOWN: u8 = 0xee;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and empty settings.
pub(crate) fn greeting() -> Vec<u8> {
    let mut greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    greeting.extend(frame(SETTINGS, 0, 0, &[]));
    greeting
}

/// A gRPC call of `path` with one empty message.
pub(crate) fn call(stream: u32, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let mut call = frame(HEADERS, END_HEADERS, stream, &block);
    call.extend(frame(DATA, END_STREAM, stream, &[0; 5]));
    call
}

/// Reads frames until one of this type on this stream has come, and gives its content; answers none of them.
pub(crate) async fn read_until(raw: &mut UnixStream, kind: u8, stream: u32) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        raw.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut content = vec![0; length];
        raw.read_exact(&mut content).await.unwrap();
        let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if (head[3], of) == (kind, stream) {
            return content;
        }
    }
}

/// Connects and greets.
pub(crate) async fn connect(served: &crate::common::Served) -> UnixStream {
    let mut raw = UnixStream::connect(served.socket.path()).await.unwrap();
    raw.write_all(&greeting()).await.unwrap();
    raw
}
