//! The virtual stream: what is written is read in other pieces, later, or never.

use std::collections::VecDeque;
use std::future::{Pending, pending};
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Timeout, timeout};

use super::Dice;
use super::watch::Watch;
use crate::fd::{Carrier, FdSend, Reception, Unsent};

/// One direction.
#[derive(Debug)]
struct Half {
    bytes: VecDeque<u8>,
    /// Bytes read so far, and by their places the messages with descriptors: where one begins and ends.
    read: u64,
    fds: VecDeque<(u64, u64, Vec<OwnedFd>)>,
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
            read: 0,
            fds: VecDeque::new(),
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

    /// Takes bytes as the kernel gives them: not beyond a message with descriptors, which come with its first byte.
    fn take(&mut self, most: usize) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut length = self.some(most.min(self.bytes.len()));
        let mut came = Vec::new();
        if let Some((begin, end, _)) = self.fds.front() {
            length = length.min(usize::try_from(end - self.read).unwrap());
            if self.read + length as u64 > *begin {
                came = self.fds.pop_front().unwrap().2;
            }
        }
        self.read += length as u64;
        (self.bytes.drain(..length).collect(), came)
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
            half.fds.clear();
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

impl End {
    /// The next bytes, with their descriptors; none at the end.
    fn poll_take(
        &self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<(Vec<u8>, Vec<OwnedFd>)>> {
        let mut half = lock(&self.got);
        if half.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if half.bytes.is_empty() {
            if half.is_closed {
                return Poll::Ready(Ok((Vec::new(), Vec::new())));
            }
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if half.lags(cx) {
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (bytes, fds) = half.take(most);
        let writer = half.writer.take();
        drop(half);
        writer.into_iter().for_each(Waker::wake);
        lock(&self.watch).got(&bytes);
        Poll::Ready(Ok((bytes, fds)))
    }

    fn poll_put(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
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
        if !fds.is_empty() {
            let copies = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap());
            let begin = half.read + half.bytes.len() as u64;
            half.fds
                .push_back((begin, begin + length as u64, copies.collect()));
        }
        half.bytes.extend(&all[..length]);
        let reader = half.reader.take();
        drop(half);
        lock(&self.watch).sent(&all[..length]);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }
}

impl Carrier for End {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<Reception>> {
        let (bytes, fds) = ready!(self.poll_take(cx, buf.len()))?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Poll::Ready(Ok(Reception {
            length: bytes.len(),
            fds,
            truncated: false,
        }))
    }
}

impl FdSend for End {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<usize, Unsent>> {
        self.poll_put(cx, bytes, fds).map_err(Unsent::Broken)
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (bytes, _) = ready!(self.poll_take(cx, buf.remaining()))?;
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(cx, &[IoSlice::new(buf)], &[])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(cx, bufs, &[])
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
