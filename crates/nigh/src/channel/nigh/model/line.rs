//! The virtual stream: what is written is read in other pieces, later, or never.

use std::collections::VecDeque;
use std::future::{Pending, pending};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Timeout, timeout};

use super::Dice;
use super::watch::Watch;

/// One direction.
#[derive(Debug)]
struct Half {
    bytes: VecDeque<u8>,
    capacity: usize,
    dice: Dice,
    /// The writer says no more.
    is_closed: bool,
    /// Nobody reads any more.
    is_unread: bool,
    /// Both ends get errors.
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// A time in which nothing moves.
    stall: Option<Pin<Box<Timeout<Pending<()>>>>>,
}

impl Half {
    fn new(mut dice: Dice) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity: dice.one_of(&[60, 3000, 200_000]),
            dice,
            is_closed: false,
            is_unread: false,
            is_reset: false,
            reader: None,
            writer: None,
            stall: None,
        }
    }

    fn wake(&mut self) {
        [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
            .for_each(Waker::wake);
    }

    /// Whether the turn is lost: to nothing, or to a time in which nothing moves.
    fn lags(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(stall) = &mut self.stall {
            if stall.as_mut().poll(cx).is_pending() {
                return true;
            }
            self.stall = None;
        }
        match self.dice.roll(40) {
            0 => {
                let time = Duration::from_micros(self.dice.next() % 5000 + 1);
                let mut stall = Box::pin(timeout(time, pending()));
                // A new timer is not due yet.
                let _ = stall.as_mut().poll(cx);
                self.stall = Some(stall);
                true
            }
            1..4 => {
                cx.waker().wake_by_ref();
                true
            }
            _ => false,
        }
    }

    /// How many bytes move at once.
    fn some(&mut self, most: usize) -> usize {
        let size = self
            .dice
            .one_of(&[1, 13, 600, usize::MAX, usize::MAX, usize::MAX, usize::MAX]);
        most.min(size)
    }
}

/// The stream, and what both ends did with it.
#[derive(Debug, Clone)]
pub(super) struct Virtual {
    up: Arc<Mutex<Half>>,
    down: Arc<Mutex<Half>>,
    client: Arc<Mutex<Watch>>,
    server: Arc<Mutex<Watch>>,
}

/// One end of it.
#[derive(Debug)]
pub(super) struct End {
    sent: Arc<Mutex<Half>>,
    got: Arc<Mutex<Half>>,
    watch: Arc<Mutex<Watch>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Virtual {
    pub(super) fn new(seed: u64) -> Self {
        let half = |salt| Arc::new(Mutex::new(Half::new(Dice(seed ^ salt))));
        Self {
            up: half(0x5555),
            down: half(0xaaaa),
            client: Arc::new(Mutex::new(Watch::new(true))),
            server: Arc::new(Mutex::new(Watch::new(false))),
        }
    }

    /// The client's end and the server's.
    pub(super) fn ends(&self) -> (End, End) {
        let end = |sent: &Arc<_>, got: &Arc<_>, watch: &Arc<_>| End {
            sent: Arc::clone(sent),
            got: Arc::clone(got),
            watch: Arc::clone(watch),
        };
        (
            end(&self.up, &self.down, &self.client),
            end(&self.down, &self.up, &self.server),
        )
    }

    /// Ends both directions at once; with errors, or as if both ends had closed.
    pub(super) fn cut(&self, is_reset: bool) {
        for half in [&self.up, &self.down] {
            let mut half = lock(half);
            half.is_closed = true;
            half.is_unread = true;
            half.is_reset = is_reset;
            half.bytes.clear();
            half.wake();
        }
    }

    pub(super) fn rules_were_kept(&self) -> Result<(), String> {
        lock(&self.client).kept()?;
        lock(&self.server).kept()
    }

    pub(super) fn all_is_given_back(&self) -> Result<(), String> {
        lock(&self.client).given_back()?;
        lock(&self.server).given_back()
    }
}

impl crate::io::Memory for End {}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut half = lock(&self.got);
        if half.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if half.bytes.is_empty() {
            if half.is_closed {
                return Poll::Ready(Ok(()));
            }
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if half.lags(cx) {
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = half.bytes.len().min(buf.remaining());
        let length = half.some(most);
        let bytes: Vec<u8> = half.bytes.drain(..length).collect();
        buf.put_slice(&bytes);
        let writer = half.writer.take();
        drop(half);
        writer.into_iter().for_each(Waker::wake);
        lock(&self.watch).got(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = bufs
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let mut half = lock(&self.sent);
        if half.is_reset || half.is_unread {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = half.capacity - half.bytes.len();
        if room == 0 {
            half.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = half.some(room.min(all.len()));
        half.bytes.extend(&all[..length]);
        let reader = half.reader.take();
        drop(half);
        lock(&self.watch).sent(&all[..length]);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut half = lock(&self.sent);
        half.is_closed = true;
        half.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut sent = lock(&self.sent);
        sent.is_closed = true;
        sent.wake();
        drop(sent);
        let mut got = lock(&self.got);
        got.is_unread = true;
        got.wake();
    }
}
