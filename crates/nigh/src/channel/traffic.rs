//! What a client's HTTP/2 connection has sent and been told: which calls its server has certainly not seen.
//!
//! h2 hides the numbers of streams and hyper the calls it had not begun, so the frames' heads are looked at on their
//! way. Trap: a server that leaves says so twice (RFC 9113 6.8). h2 would fail calls at the first time that are about
//! to be sent, at a moment when nobody can tell whether their heads have left; so the first GOAWAY, which asks for
//! nothing but to begin no more calls, is taken out here, and the channel goes elsewhere with its next call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use h2::Reason;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 9113 3.4 and 4.1.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
/// Head, last stream and code of a GOAWAY.
const GOAWAY_BYTES: usize = HEAD_BYTES + 8;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const STREAM_MAX: u32 = 0x7fff_ffff;
/// No GOAWAY has come that names a stream.
const NONE: u32 = u32::MAX;

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    /// The server takes no more calls here.
    is_leaving: AtomicBool,
    /// The last stream of which it says that it may have seen it.
    seen: AtomicU32,
    /// The last stream whose head was written.
    sent: AtomicU32,
    /// Held while a call is handed to hyper, and while hyper's end of that is dropped.
    handing_over: Mutex<()>,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            is_leaving: AtomicBool::new(false),
            seen: AtomicU32::new(NONE),
            sent: AtomicU32::new(0),
            handing_over: Mutex::default(),
        }
    }

    /// To be held while a call is handed to hyper, and while hyper's end of that is dropped. Trap: a call that is on its
    /// way into tokio's channel while the receiver goes would stay there for as long as somebody can send, and nobody
    /// would be told.
    pub(super) fn handing_over(&self) -> MutexGuard<'_, ()> {
        let held = self.handing_over.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server has said that it takes no more calls.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// No more calls can be sent here, whatever the server says.
    pub(super) fn leaves(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// The last stream whose head was written: a call that begins now gets a higher one.
    pub(super) fn sent(&self) -> u32 {
        self.sent.load(Ordering::Acquire)
    }

    /// Whether the server has certainly not seen the call that failed so. It began after `sent`; `is_begun` tells
    /// whether any of its body was asked for, which is after its stream was opened.
    pub(super) fn spared(&self, error: &hyper::Error, sent: u32, is_begun: bool) -> bool {
        let seen = self.seen.load(Ordering::Acquire);
        if seen <= sent {
            return true;
        }
        match h2_error(error) {
            // RFC 9113 8.7.
            Some(error) if error.is_reset() && error.is_remote() => {
                error.reason() == Some(Reason::REFUSED_STREAM)
            }
            // An open stream is failed so by its number alone, while the connection goes on.
            Some(error) if error.is_go_away() && error.is_remote() => {
                is_begun && error.reason() == Some(Reason::NO_ERROR)
            }
            Some(error) if !error.is_io() => false,
            // The connection is over: what was not written by now never will be.
            _ => self.sent() == sent,
        }
    }

    fn told(&self, last: u32, code: u32) -> bool {
        self.leaves();
        let is_first = last == STREAM_MAX && code == u32::from(Reason::NO_ERROR);
        if !is_first {
            // It may only become less.
            self.seen.fetch_min(last, Ordering::AcqRel);
        }
        is_first
    }
}

/// What h2 said, if it was h2.
pub(super) fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |four| u32::from_be_bytes(*four))
}

/// Frames as they come, without the first GOAWAY.
#[derive(Debug, Default)]
struct Incoming {
    /// Bytes of the frame at hand that are still to come.
    left: usize,
    is_dropped: bool,
}

impl Incoming {
    /// Moves what passes to the front of `bytes`. How much that is, and how many bytes at the end are the beginning of a
    /// frame of which more must be seen; with `ended` none.
    fn filter(&mut self, bytes: &mut [u8], ended: bool, traffic: &Traffic) -> (usize, usize) {
        let (mut read, mut passed) = (0, 0);
        loop {
            let count = self.left.min(bytes.len() - read);
            if !self.is_dropped {
                if read != passed {
                    bytes.copy_within(read..read + count, passed);
                }
                passed += count;
            }
            read += count;
            self.left -= count;
            let rest = bytes.get(read..).unwrap_or_default();
            if rest.is_empty() || (!ended && !is_enough(rest)) {
                return (passed, rest.len());
            }
            self.begin(rest, traffic);
        }
    }

    fn begin(&mut self, rest: &[u8], traffic: &Traffic) {
        self.is_dropped = false;
        let (Some(length), Some(kind)) = (frame_bytes(rest), rest.get(3)) else {
            // The end of the connection in the middle of a head.
            self.left = rest.len();
            return;
        };
        self.left = length;
        if let Some(content) = rest.get(HEAD_BYTES..GOAWAY_BYTES)
            && *kind == GOAWAY
            && length >= GOAWAY_BYTES
        {
            let code = content.get(4..).map_or(0, number);
            self.is_dropped = traffic.told(number(content) & STREAM_MAX, code);
        }
    }
}

/// Head and content together; `None` while the head is not there.
fn frame_bytes(rest: &[u8]) -> Option<usize> {
    let [a, b, c, ..] = *rest.first_chunk::<HEAD_BYTES>()?;
    let length = u32::from_be_bytes([0, a, b, c]);
    usize::try_from(length).ok()?.checked_add(HEAD_BYTES)
}

fn is_enough(rest: &[u8]) -> bool {
    match (frame_bytes(rest), rest.get(3)) {
        (Some(length), Some(&GOAWAY)) => rest.len() >= length.min(GOAWAY_BYTES),
        (Some(_), _) => true,
        (None, _) => false,
    }
}

/// Frames as they leave.
#[derive(Debug)]
struct Outgoing {
    left: usize,
    head: [u8; HEAD_BYTES],
    have: usize,
}

impl Outgoing {
    fn new() -> Self {
        Self {
            left: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            have: 0,
        }
    }

    fn advance(&mut self, mut bytes: &[u8], traffic: &Traffic) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            for (to, from) in self.head.iter_mut().skip(self.have).zip(bytes) {
                *to = *from;
            }
            let taken = (HEAD_BYTES - self.have).min(bytes.len());
            self.have += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.have < HEAD_BYTES {
                return;
            }
            self.have = 0;
            self.left = frame_bytes(&self.head).unwrap_or(HEAD_BYTES) - HEAD_BYTES;
            let [_, _, _, kind, _, stream @ ..] = self.head;
            if kind == HEADERS {
                let stream = u32::from_be_bytes(stream) & STREAM_MAX;
                traffic.sent.fetch_max(stream, Ordering::AcqRel);
            }
        }
    }
}

pin_project! {
    /// A client's stream on which the frames are followed.
    #[derive(Debug)]
    pub(super) struct Followed<S> {
        #[pin]
        stream: S,
        traffic: Arc<Traffic>,
        incoming: Incoming,
        outgoing: Outgoing,
        // The beginning of a frame of which more must be seen: less than GOAWAY_BYTES.
        held: Vec<u8>,
        // What has passed and found no room.
        ready: Vec<u8>,
    }
}

impl<S> Followed<S> {
    /// Wraps a stream of which nothing has been read or written.
    pub(super) fn new(stream: S) -> (Self, Arc<Traffic>) {
        let traffic = Arc::new(Traffic::new());
        let followed = Self {
            stream,
            traffic: Arc::clone(&traffic),
            incoming: Incoming::default(),
            outgoing: Outgoing::new(),
            held: Vec::new(),
            ready: Vec::new(),
        };
        (followed, traffic)
    }
}

impl<S: AsyncRead> Followed<S> {
    /// Reads into `buf`, which has room for more than what is held, what passes; `true` at the end.
    fn poll_fill(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut this = self.project();
        let start = buf.filled().len();
        loop {
            buf.put_slice(this.held);
            let before = buf.filled().len();
            let read = this.stream.as_mut().poll_read(cx, buf);
            if !matches!(read, Poll::Ready(Ok(()))) {
                buf.set_filled(start);
                return read.map_ok(|()| false);
            }
            let ended = buf.filled().len() == before;
            let bytes = buf.filled_mut().get_mut(start..).unwrap_or_default();
            let (passed, rest) = this.incoming.filter(bytes, ended, this.traffic);
            this.held.clear();
            let rest = bytes.len() - rest;
            let rest = bytes.get(rest..).unwrap_or_default();
            this.held.extend_from_slice(rest);
            buf.set_filled(start + passed);
            // Nothing would look like the end.
            if passed > 0 || ended {
                return Poll::Ready(Ok(ended));
            }
        }
    }
}

impl<S: AsyncRead> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.ready.is_empty() && buf.remaining() > GOAWAY_BYTES {
            return self.poll_fill(cx, buf).map_ok(drop);
        }
        if self.ready.is_empty() {
            let mut small = [0; 8 * GOAWAY_BYTES];
            let mut small = ReadBuf::new(&mut small);
            ready!(self.as_mut().poll_fill(cx, &mut small))?;
            self.as_mut().project().ready.extend(small.filled());
        }
        let ready = self.project().ready;
        let count = ready.len().min(buf.remaining());
        buf.put_slice(ready.get(..count).unwrap_or_default());
        ready.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite> AsyncWrite for Followed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = ready!(this.stream.poll_write(cx, buf))?;
        let bytes = buf.get(..written).unwrap_or_default();
        this.outgoing.advance(bytes, this.traffic);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = ready!(this.stream.poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let count = left.min(buf.len());
            left -= count;
            let bytes = buf.get(..count).unwrap_or_default();
            this.outgoing.advance(bytes, this.traffic);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nigh_testkit::scripted::{Scripted, Step};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn frame(kind: u8, stream: u32, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, 0], &stream.to_be_bytes()];
        [&head.concat(), content].concat()
    }

    fn goaway(last: u32, code: u32, text: &[u8]) -> Vec<u8> {
        let content = [&last.to_be_bytes(), &code.to_be_bytes(), text].concat();
        frame(GOAWAY, 0, &content)
    }

    async fn read(steps: Vec<Step>) -> (Vec<u8>, Arc<Traffic>) {
        let (mut followed, traffic) = Followed::new(Scripted::new(steps));
        let mut read = Vec::new();
        followed.read_to_end(&mut read).await.unwrap();
        (read, traffic)
    }

    /// All ways to cut `bytes` in two, and into single bytes.
    fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<Step>> {
        let whole = (1..bytes.len()).map(|at| {
            let (first, second) = bytes.split_at(at);
            let data = [first, second].map(|part| Step::Data(part.to_vec()));
            data.into_iter().chain([Step::Eof]).collect()
        });
        let single = bytes.iter().map(|byte| Step::Data(vec![*byte]));
        whole.chain([single.chain([Step::Eof]).collect()])
    }

    #[tokio::test]
    async fn only_the_first_goaway_is_taken_out_however_it_is_cut() {
        let before = [frame(4, 0, b"settin"), frame(0, 1, &[9; 700])].concat();
        let after = [
            frame(6, 0, b"pingping"),
            goaway(5, 0, b"bye"),
            frame(1, 3, b"h"),
        ]
        .concat();
        let first = goaway(STREAM_MAX, 0, b"and why, at some length");
        for steps in cuts(&[before.clone(), first, after.clone()].concat()) {
            let (read, traffic) = read(steps).await;
            assert!(read == [before.clone(), after.clone()].concat());
            assert!(traffic.is_leaving());
            assert_eq!(traffic.seen.load(Ordering::Acquire), 5);
        }
    }

    #[tokio::test]
    async fn a_goaway_with_an_error_passes_and_so_does_what_is_none() {
        for bytes in [
            goaway(STREAM_MAX, 11, b""),
            frame(GOAWAY, 0, b"short"),
            vec![0, 0, 9, 7],
        ] {
            for steps in cuts(&bytes) {
                assert!(read(steps).await.0 == bytes);
            }
        }
        let (_, traffic) = read(vec![Step::Data(frame(4, 0, b"")), Step::Eof]).await;
        assert!(!traffic.is_leaving());
    }

    #[tokio::test]
    async fn a_reader_without_room_gets_the_same() {
        let bytes = [
            goaway(STREAM_MAX, 0, b""),
            frame(0, 1, &[3; 90]),
            goaway(1, 0, b""),
        ]
        .concat();
        let (mut followed, _) = Followed::new(Scripted::new([Step::Data(bytes), Step::Eof]));
        let mut read = Vec::new();
        let mut one = [0; 1];
        while followed.read(&mut one).await.unwrap() == 1 {
            read.push(one[0]);
        }
        assert!(read == [frame(0, 1, &[3; 90]), goaway(1, 0, b"")].concat());
    }

    #[tokio::test]
    async fn the_last_head_that_was_written_is_known() {
        let stream = Scripted::new([]).write_capacity(1 << 20);
        let (mut followed, traffic) = Followed::new(stream);
        let bytes = [
            vec![0; PREFACE_BYTES],
            frame(4, 0, b"settin"),
            frame(1, 1, b"head"),
        ]
        .concat();
        followed.write_all(&bytes).await.unwrap();
        assert_eq!(traffic.sent(), 1);
        let second = frame(1, 3, b"head");
        followed.write_all(&second[..HEAD_BYTES - 1]).await.unwrap();
        assert_eq!(traffic.sent(), 1);
        followed.write_all(&second[HEAD_BYTES - 1..]).await.unwrap();
        assert_eq!(traffic.sent(), 3);
    }
}
