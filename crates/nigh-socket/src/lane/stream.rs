//! A lane as a stream of bytes for tasks.
//!
//! Trap: bytes that were written before the peer went are still there after the socket has ended, so the ring is looked at
//! once more after that.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::task::coop;

use super::protocol::{Found, Memory as _, Name, Reader, Writer};
use super::wakers::{Direction, Wakers};
use super::{Lane, LaneFault, Side, memory};
use crate::spin::{Luck, Spin};
use crate::stream::UnixStream;
use crate::sys::register::register;
use crate::sys::shared::SharedPages;

/// No processor: nobody has run yet. A processor's number is published plus one, because fresh memory is 0.
const NOWHERE: u32 = 0;

/// Looks between two looks at the clock.
const LOOKS: u32 = 32;

thread_local! {
    /// The lane that this thread served last: with several of them, looking for one keeps the others waiting.
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// A stream of bytes through shared memory; dropping it ends it for the peer.
#[derive(Debug)]
pub struct LaneStream {
    id: u64,
    pages: SharedPages,
    writer: Writer,
    reader: Reader,
    side: Side,
    /// Our processor as the peer knows it.
    cpu: u32,
    bell: AsyncFd<OwnedFd>,
    peers_bell: OwnedFd,
    socket: UnixStream,
    wakers: Arc<Wakers>,
    waker: Waker,
    spin: Spin,
    is_eager: bool,
    read_luck: Luck,
    write_luck: Luck,
    /// Whose last poll found nothing and left to sleep.
    is_reader_asleep: bool,
    is_writer_asleep: bool,
    /// The peer is gone, which its socket has shown.
    is_alone: bool,
    fault: Option<LaneFault>,
}

impl LaneStream {
    pub(super) fn new(lane: Lane, socket: UnixStream, spin: Spin) -> io::Result<Self> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let (bell, peers_bell) = match lane.side {
            Side::Server => (lane.server_bell, lane.client_bell),
            Side::Client => (lane.client_bell, lane.server_bell),
        };
        let wakers = Arc::<Wakers>::default();
        Ok(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            pages: lane.pages,
            writer: Writer::new(lane.side.writes(), lane.capacity),
            reader: Reader::new(lane.side.reads(), lane.capacity),
            side: lane.side,
            cpu: NOWHERE,
            bell: register(bell, Interest::READABLE)?,
            peers_bell,
            socket,
            waker: Waker::from(Arc::clone(&wakers)),
            wakers,
            spin,
            is_eager: true,
            read_luck: Luck::default(),
            write_luck: Luck::default(),
            is_reader_asleep: false,
            is_writer_asleep: false,
            is_alone: false,
            fault: None,
        })
    }

    /// The socket beside it, which shows that the peer lives.
    #[must_use]
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Whether looking for a moment before sleeping is welcome just now, if the policy is to do so at all; it is unless said
    /// otherwise. It is not while other tasks have something to do on this thread.
    pub fn set_eager(&mut self, is_eager: bool) {
        self.is_eager = is_eager;
    }

    /// Copies to `buffer` what is there; whether that was anything.
    fn try_read(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let taken = self.reader.take(&self.pages, buffer);
        if self.checked(taken)? == 0 {
            return Ok(false);
        }
        self.publish_cpu();
        if self.reader.release(&self.pages) {
            self.ring()?;
        }
        Ok(true)
    }

    /// Copies in what there is room for; how much that was.
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = 0;
        for slice in slices {
            let put = self.writer.put(&self.pages, slice);
            let put = self.checked(put)?;
            written += put;
            if put < slice.len() {
                break;
            }
        }
        if written > 0 {
            self.publish_cpu();
            if self.writer.publish(&self.pages) {
                self.ring()?;
            }
        }
        Ok(written)
    }

    /// A peer that broke the rules once is not believed again.
    fn checked<T>(&mut self, result: Result<T, LaneFault>) -> Result<T, LaneFault> {
        match (result, self.fault) {
            (_, Some(fault)) => Err(fault),
            (Err(fault), None) => {
                self.fault = Some(fault);
                Err(fault)
            }
            (result, None) => result,
        }
    }

    fn ring(&self) -> io::Result<()> {
        Ok(memory::ring(&self.peers_bell)?)
    }

    fn publish_cpu(&mut self) {
        LAST.set(self.id);
        let cpu = here();
        if cpu != self.cpu {
            self.cpu = cpu;
            let word = self.pages.word(self.side.writes(), Name::Cpu);
            word.store(cpu, Ordering::Relaxed);
        }
    }

    fn peers_cpu(&self) -> u32 {
        let word = self.pages.word(self.side.reads(), Name::Cpu);
        word.load(Ordering::Relaxed)
    }

    /// How long to look before sleeping, if at all.
    fn patience(&self) -> Option<Duration> {
        let Spin::Adaptive(patience) = self.spin else {
            return None;
        };
        let is_elsewhere = ![NOWHERE, here()].contains(&self.peers_cpu());
        let is_worth_it = self.is_eager && !self.is_alone && LAST.get() == self.id;
        (is_worth_it && is_elsewhere).then_some(patience)
    }

    /// Looks for what is awaited until it is there, for as long as is allowed; whether to look again.
    fn spin(
        &mut self,
        luck: fn(&mut Self) -> &mut Luck,
        is_there: fn(&mut Self) -> Result<bool, LaneFault>,
    ) -> io::Result<bool> {
        let Some(patience) = self.patience() else {
            return Ok(false);
        };
        if !luck(self).try_now() {
            return Ok(false);
        }
        let until = Instant::now() + patience;
        loop {
            for _ in 0..LOOKS {
                let is_there = is_there(self);
                if self.checked(is_there)? {
                    luck(self).hit();
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            if Instant::now() >= until || self.peers_cpu() == here() {
                luck(self).miss();
                return Ok(false);
            }
        }
    }

    /// Registers for bell and socket. Ready: one of them has changed since it was last looked at.
    ///
    /// Trap: both directions have one bell. Who finds it rung takes the signal away from the other, which may sleep already and
    /// be the one that was meant: so that one is woken.
    fn poll_signals(&mut self, direction: Direction) -> Poll<io::Result<()>> {
        let polled = self.poll_bell_and_socket();
        let (own, other, others) = match direction {
            Direction::Read => (
                &mut self.is_reader_asleep,
                &mut self.is_writer_asleep,
                Direction::Write,
            ),
            Direction::Write => (
                &mut self.is_writer_asleep,
                &mut self.is_reader_asleep,
                Direction::Read,
            ),
        };
        *own = polled.is_pending();
        if polled.is_ready() && std::mem::take(other) {
            self.wakers.wake_one(others);
        }
        polled
    }

    fn poll_bell_and_socket(&mut self) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(&self.waker);
        let bell = self.bell.poll_read_ready(&mut cx).map_ok(|mut ready| {
            // Never read: the count stays, and each ring is an edge.
            ready.clear_ready();
        });
        if !self.is_alone
            && let Poll::Ready(peeked) = self.socket.poll_peek(&mut cx)
        {
            match peeked {
                Ok(0) | Err(_) => self.is_alone = true,
                Ok(_) => {
                    let spoke = Err(LaneFault::SocketBytes);
                    self.checked(spoke)?;
                }
            }
            return Poll::Ready(Ok(()));
        }
        bell
    }

    fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut has_spun = false;
        self.is_reader_asleep = false;
        loop {
            if buffer.remaining() == 0 || self.try_read(buffer)? {
                return Poll::Ready(Ok(()));
            }
            if self.is_alone {
                return Poll::Ready(Ok(()));
            }
            if !std::mem::replace(&mut has_spun, true) {
                let is_there = |this: &mut Self| {
                    let found = this.reader.look_for(&this.pages)?;
                    Ok(found != Found::Nothing)
                };
                if self.spin(|this| &mut this.read_luck, is_there)? {
                    continue;
                }
            }
            self.wakers.set(Direction::Read, cx.waker());
            let found = self.reader.wait(&self.pages);
            match self.checked(found)? {
                Found::Bytes => continue,
                Found::End => return Poll::Ready(Ok(())),
                Found::Nothing => ready!(self.poll_signals(Direction::Read))?,
            }
        }
    }

    fn poll_write_some(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut has_spun = false;
        self.is_writer_asleep = false;
        loop {
            if self.is_alone {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let written = self.try_write(slices)?;
            if written > 0 || slices.iter().all(|slice| slice.is_empty()) {
                return Poll::Ready(Ok(written));
            }
            if !std::mem::replace(&mut has_spun, true) {
                let is_there = |this: &mut Self| this.writer.has_room(&this.pages);
                if self.spin(|this| &mut this.write_luck, is_there)? {
                    continue;
                }
            }
            self.wakers.set(Direction::Write, cx.waker());
            let may_sleep = self.writer.wait(&self.pages);
            if self.checked(may_sleep)? {
                ready!(self.poll_signals(Direction::Write))?;
            }
        }
    }
}

/// The processor that this thread runs on, plus one.
fn here() -> u32 {
    let cpu = rustix::thread::sched_getcpu();
    u32::try_from(cpu).unwrap_or(u32::MAX).saturating_add(1)
}

impl AsyncRead for LaneStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A peer that always has something must not keep the task on its thread for ever.
        let turn = ready!(coop::poll_proceed(cx));
        let polled = self.get_mut().poll_read_some(cx, buffer);
        if polled.is_ready() {
            turn.made_progress();
        }
        polled
    }
}

impl AsyncWrite for LaneStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(cx));
        let polled = self.get_mut().poll_write_some(cx, slices);
        if polled.is_ready() {
            turn.made_progress();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writer.end(&self.pages) {
            self.ring()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsFd for LaneStream {
    /// The socket beside it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::thread::CpuSet;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::RING_BYTES_MIN;
    use super::*;

    fn pair(spin: Spin) -> (LaneStream, LaneStream) {
        let (a, b) = UnixStream::pair().unwrap();
        let server = Lane::create(RING_BYTES_MIN).unwrap();
        let descriptors = server.descriptors().map(|fd| fd.try_clone_to_owned());
        let descriptors: Vec<OwnedFd> = descriptors.into_iter().map(Result::unwrap).collect();
        let client = Lane::accept(descriptors, RING_BYTES_MIN).unwrap();
        (server.open(a, spin).unwrap(), client.open(b, spin).unwrap())
    }

    #[tokio::test]
    async fn looking_is_for_a_peer_on_another_processor_only() {
        // The thread is the test's own.
        let mut here_only = CpuSet::new();
        here_only.set(rustix::thread::sched_getcpu());
        rustix::thread::sched_setaffinity(None, &here_only).unwrap();
        let (mut server, mut client) = pair(Spin::adaptive());
        assert_eq!(server.patience(), None, "nobody knows where the peer is");
        client.write_all(b"x").await.unwrap();
        server.write_all(b"x").await.unwrap();
        assert_eq!(server.patience(), None, "the peer is here");
        let cpu = server.pages.word(server.side.reads(), Name::Cpu);
        cpu.store(here() + 1, Ordering::Relaxed);
        assert!(server.patience().is_some(), "the peer is elsewhere");
        server.set_eager(false);
        assert_eq!(server.patience(), None, "it is not welcome");
        server.set_eager(true);
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.patience(), None, "this thread serves others, too");
        let (server, _client) = pair(Spin::Off);
        assert_eq!(server.patience(), None, "the policy is not to");
    }

    /// The reader finds the bell rung that was meant for the writer, which sleeps.
    #[tokio::test]
    async fn no_direction_takes_the_others_signal_away() {
        use std::sync::atomic::AtomicBool;
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (mut server, mut client) = pair(Spin::Off);
        let full = [0; RING_BYTES_MIN as usize];
        server.write_all(&full).await.unwrap();
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let more = [IoSlice::new(b"more")];
        assert!(server.poll_write_some(&mut cx, &more).is_pending());
        client.read_exact(&mut [0; 4096]).await.unwrap();
        // The reactor sees the ring, and with no waker of ours involved the reader takes it.
        server.wakers.set(Direction::Write, Waker::noop());
        server.bell.readable().await.unwrap().retain_ready();
        server.wakers.set(Direction::Write, &waker);
        woken.0.store(false, Ordering::Relaxed);
        let mut space = [0; 8];
        let mut into = ReadBuf::new(&mut space);
        let mut reader = Context::from_waker(Waker::noop());
        assert!(server.poll_read_some(&mut reader, &mut into).is_pending());
        assert!(woken.0.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_peer_that_is_awake_is_not_rung() {
        let (mut server, mut client) = pair(Spin::Off);
        for _ in 0..3 {
            server.writer.put(&server.pages, b"x").unwrap();
            assert!(!server.writer.publish(&server.pages));
            client
                .reader
                .take(&client.pages, &mut ReadBuf::new(&mut [0; 8]))
                .unwrap();
            assert!(!client.reader.release(&client.pages));
        }
        assert_eq!(client.reader.wait(&client.pages).unwrap(), Found::Nothing);
        server.writer.put(&server.pages, b"x").unwrap();
        assert!(server.writer.publish(&server.pages));
        assert!(!server.writer.publish(&server.pages), "once is enough");
    }
}
