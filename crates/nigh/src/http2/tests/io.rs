//! The stream around the fix: small buffers, the end in the middle of a block, errors, and writes.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{PREFACE, frame};
use crate::http2::io::AuthorityFixed;

fn client(authority: &[u8]) -> Vec<u8> {
    let value = [
        &[0x41, u8::try_from(authority.len()).unwrap()][..],
        authority,
    ]
    .concat();
    [
        PREFACE.to_vec(),
        frame(1, 5, 1, &value),
        frame(0, 1, 1, b"data"),
    ]
    .concat()
}

#[tokio::test]
async fn a_reader_with_one_byte_of_room_gets_all_of_it() {
    let bytes = client(b"/run/app.sock");
    let (expected, _) = super::fix([bytes.as_slice()]);
    let mut stream = AuthorityFixed::new(tokio::io::join(bytes.as_slice(), tokio::io::sink()));
    let mut got = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        got.push(byte);
    }
    assert_eq!(got, expected);
    assert_ne!(got, bytes);
}

#[tokio::test]
async fn the_end_within_a_block_gives_what_was_held() {
    let bytes = client(b"/run/app.sock");
    let cut = &bytes[..PREFACE.len() + 12];
    let mut stream = AuthorityFixed::new(tokio::io::join(cut, tokio::io::sink()));
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, cut);
}

#[test]
fn a_full_buffer_is_not_the_end() {
    let bytes = client(b"/run/app.sock");
    let mut stream = pin!(AuthorityFixed::new(tokio::io::join(
        bytes.as_slice(),
        tokio::io::sink()
    )));
    let mut cx = Context::from_waker(Waker::noop());
    let mut none = ReadBuf::new(&mut []);
    assert!(stream.as_mut().poll_read(&mut cx, &mut none).is_ready());
    let mut room = [0; 200];
    let mut buf = ReadBuf::new(&mut room);
    assert!(stream.as_mut().poll_read(&mut cx, &mut buf).is_ready());
    assert_eq!(buf.filled(), super::fix([bytes.as_slice()]).0);
}

/// Gives one piece per read, and says where in memory it was asked to put them.
struct Pieces<'a>(Vec<&'a [u8]>, &'a Cell<usize>);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.set(buf.initialize_unfilled().as_ptr().addr());
        if !self.0.is_empty() {
            buf.put_slice(self.0.remove(0));
        }
        Poll::Ready(Ok(()))
    }
}

#[test]
fn good_clients_and_the_payload_of_bad_ones_are_read_straight_into_the_readers_buffer() {
    let place = Cell::new(0);
    let mut cx = Context::from_waker(Waker::noop());
    for authority in [&b"localhost"[..], b"/run/app.sock"] {
        let first = client(authority);
        let data = frame(0, 0, 1, &[7; 5000]);
        let pieces = vec![&first[..], &data[..1000], &data[1000..], b"\0\0\0\x04"];
        let mut stream = pin!(AuthorityFixed::new(Pieces(pieces, &place)));
        for length in [None, Some(1000), Some(4009)] {
            let mut room = [0; 6000];
            let at = room.as_ptr().addr();
            let mut buf = ReadBuf::new(&mut room);
            assert!(stream.as_mut().poll_read(&mut cx, &mut buf).is_ready());
            assert_eq!(place.get(), at);
            assert_eq!(buf.filled().len(), length.unwrap_or(buf.filled().len()));
        }
    }
}

#[test]
fn an_error_of_the_stream_is_passed_on() {
    let mut stream = pin!(AuthorityFixed::new(Broken));
    let mut cx = Context::from_waker(Waker::noop());
    let mut room = [0; 10];
    let read = stream
        .as_mut()
        .poll_read(&mut cx, &mut ReadBuf::new(&mut room));
    let Poll::Ready(Err(error)) = read else {
        panic!("{read:?}");
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

#[tokio::test]
async fn writes_are_those_of_the_stream_vectored_too() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = AuthorityFixed::new(near);
    assert!(tokio::io::AsyncWrite::is_write_vectored(&stream));
    stream.write_all(b"plain ").await.unwrap();
    let count = stream
        .write_vectored(&[IoSlice::new(b"vec"), IoSlice::new(b"tored")])
        .await
        .unwrap();
    assert_eq!(count, 8);
    stream.shutdown().await.unwrap();
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "plain vectored");
}
