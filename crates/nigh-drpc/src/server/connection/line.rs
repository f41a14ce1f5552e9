//! A caller's socket: in the reactor, or on a thread that blocks in it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use nigh_socket::{Received, RecvError, SendError, UnixSeqpacket, blocking};

/// How long a thread waits for a packet, or for room to send one, before its connection goes back to the reactor.
const PATIENCE: Duration = Duration::from_millis(10);

/// The socket of one connection.
pub(super) enum Line {
    Reactor(UnixSeqpacket),
    Thread(Arc<Blocking>),
}

/// A socket that blocks the thread which serves it.
pub(super) struct Blocking {
    pub(super) socket: blocking::UnixSeqpacket,
    /// The reactor wants it back.
    pub(super) recalled: AtomicBool,
}

impl Blocking {
    fn may_wait(&self, may_wait: bool) -> bool {
        may_wait && !self.recalled.load(Ordering::Relaxed)
    }
}

/// A thread that waited in vain has nothing.
fn patient(received: Result<Received, RecvError>) -> Poll<Result<Received, RecvError>> {
    match received {
        Err(RecvError::TimedOut) => Poll::Pending,
        received => Poll::Ready(received),
    }
}

impl Line {
    /// The same socket, out of the reactor.
    pub(super) fn blocking(socket: &UnixSeqpacket) -> io::Result<Arc<Blocking>> {
        let mut socket = blocking::UnixSeqpacket::new(socket.as_fd().try_clone_to_owned()?)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Arc::new(Blocking {
            socket,
            recalled: AtomicBool::new(false),
        }))
    }

    /// The same socket, in the reactor again.
    pub(super) fn reactor(blocking: &Blocking) -> io::Result<Self> {
        let socket = blocking.socket.as_fd().try_clone_to_owned()?;
        Ok(Self::Reactor(UnixSeqpacket::new(socket)?))
    }

    pub(super) fn is_on_a_thread(&self) -> bool {
        matches!(self, Self::Thread(_))
    }

    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Poll<Result<(), SendError>> {
        match self {
            Self::Reactor(socket) => socket.poll_send(cx, slices, fds),
            Self::Thread(thread) => {
                // There is room mostly, and then no clock is looked at.
                let sent = match thread.socket.try_send(slices, fds) {
                    Err(SendError::WouldBlock) => thread.socket.send(slices, fds),
                    sent => sent,
                };
                match sent {
                    Err(SendError::TimedOut) => Poll::Pending,
                    sent => Poll::Ready(sent),
                }
            }
        }
    }

    /// `may_wait`: nothing but a packet can happen. A thread that waited in vain is told to go: pending.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        may_wait: bool,
    ) -> Poll<Result<Received, RecvError>> {
        match self {
            Self::Reactor(socket) => socket.poll_recv(cx, buffer),
            Self::Thread(thread) if thread.may_wait(may_wait) => {
                patient(thread.socket.recv(buffer))
            }
            Self::Thread(_) => Poll::Pending,
        }
    }

    /// As [`poll_recv`](Self::poll_recv), to behind what `memory` holds.
    pub(super) fn poll_recv_behind(
        &self,
        cx: &mut Context<'_>,
        memory: &mut Vec<u8>,
        may_wait: bool,
    ) -> Poll<Result<Received, RecvError>> {
        match self {
            Self::Reactor(socket) => socket.poll_recv_behind(cx, memory),
            Self::Thread(thread) if thread.may_wait(may_wait) => {
                patient(thread.socket.recv_behind(memory))
            }
            Self::Thread(_) => Poll::Pending,
        }
    }

    pub(super) fn try_send(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        match self {
            Self::Reactor(socket) => socket.try_send(slices, fds),
            Self::Thread(thread) => thread.socket.try_send(slices, fds),
        }
    }

    pub(super) fn try_recv(&self, buffer: &mut [u8]) -> Result<Received, RecvError> {
        match self {
            Self::Reactor(socket) => socket.try_recv(buffer),
            Self::Thread(thread) => thread.socket.try_recv(buffer),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Reactor(socket) => socket.shutdown(how),
            Self::Thread(thread) => thread.socket.shutdown(how),
        }
    }

    pub(super) fn set_empty_packets(&self, expected: bool) -> io::Result<()> {
        match self {
            Self::Reactor(socket) => socket.set_empty_packets(expected),
            Self::Thread(thread) => thread.socket.set_empty_packets(expected),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Reactor(socket) => socket.as_fd(),
            Self::Thread(thread) => thread.socket.as_fd(),
        }
    }
}
