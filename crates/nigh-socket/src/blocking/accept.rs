//! Accepting without a runtime: the same listener, the same pipeline, the same patience with callers and shortages.
//!
//! Trap: closing a listener does not wake a thread that waits in `accept`; so it is waited for a time, if so asked.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{Stream, UnixSeqpacket, UnixStream};
use crate::accept::{AcceptError, Fault, LOST_MAX, PAUSE_MAX, PAUSE_MIN, classify};
use crate::address::Address;
use crate::incoming::{self, Accepted};
use crate::journal::Journal;
use crate::limits::Limits;
use crate::listener::{Listener, SocketKind};

/// What a connection carries: bytes, or packets.
#[derive(Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Of a stream listener.
    Stream(Stream),
    /// Of a packet listener.
    Packet(UnixSeqpacket),
}

impl Transport {
    /// Which kind of listener it came from.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        match self {
            Self::Stream(_) => SocketKind::Stream,
            Self::Packet(_) => SocketKind::Seqpacket,
        }
    }

    /// The stream.
    ///
    /// # Errors
    /// The other kind, back.
    pub fn into_stream(self) -> Result<Stream, Self> {
        match self {
            Self::Stream(stream) => Ok(stream),
            other @ Self::Packet(_) => Err(other),
        }
    }

    /// The packets.
    ///
    /// # Errors
    /// The other kind, back.
    pub fn into_packet(self) -> Result<UnixSeqpacket, Self> {
        match self {
            Self::Packet(packets) => Ok(packets),
            other @ Self::Stream(_) => Err(other),
        }
    }
}

/// An accepted socket with the kernel's facts about its peer; nothing has been read from it.
pub type Incoming = incoming::Incoming<Transport>;

/// An admitted caller: what it is connected by, and who it is.
pub type Connection = incoming::Connection<Transport>;

/// A caller that was not admitted: it may be told so, and no more.
pub type Refused = incoming::Refused<Transport>;

/// Turns a [`Listener`] into a sequence of [`Incoming`] connections: [`crate::Acceptor`] without a runtime.
#[derive(Debug)]
pub struct Acceptor {
    listener: Listener,
    address: Arc<Address>,
    journal: Journal,
    pause: Duration,
    lost_in_a_row: u32,
}

impl Acceptor {
    /// Starts accepting from `listener`, without quotas.
    #[must_use]
    pub fn new(listener: Listener) -> Self {
        Self {
            address: Arc::new(listener.address().clone()),
            listener,
            journal: Journal::new(Limits::default().log_lines_per_second),
            pause: PAUSE_MIN,
            lost_in_a_row: 0,
        }
    }

    /// The listener's address as published.
    #[must_use]
    pub fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// The next caller. Waits through shortages of descriptors and memory.
    ///
    /// # Errors
    /// Only what makes the listener unusable; never what one caller did.
    pub fn accept(&mut self) -> Result<Incoming, AcceptError> {
        loop {
            if let Some(incoming) = self.accept_until(None)? {
                return Ok(incoming);
            }
        }
    }

    /// As [`accept`](Self::accept), for at most that long; `None` when nobody came. Zero does not wait at all.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_within(&mut self, wait: Duration) -> Result<Option<Incoming>, AcceptError> {
        self.accept_until(Instant::now().checked_add(wait))
    }

    fn accept_until(&mut self, deadline: Option<Instant>) -> Result<Option<Incoming>, AcceptError> {
        loop {
            let accepted = self.listener.accept().and_then(|socket| {
                incoming::Incoming::with(
                    socket,
                    &self.listener,
                    Arc::clone(&self.address),
                    blocking,
                )
            });
            let error = match accepted {
                Ok(incoming) => {
                    (self.pause, self.lost_in_a_row) = (PAUSE_MIN, 0);
                    return Ok(Some(incoming));
                }
                Err(error) => error,
            };
            let left = deadline.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) && error.kind() == io::ErrorKind::WouldBlock
            {
                return Ok(None);
            }
            if error.kind() == io::ErrorKind::WouldBlock {
                self.wait(left)?;
                continue;
            }
            match classify(&error) {
                Fault::Listener => return Err(self.unusable(error)),
                Fault::OneConnection if self.lost_in_a_row + 1 < LOST_MAX => {
                    self.lost_in_a_row += 1;
                    self.warn(format_args!("lost one caller: {error}"));
                }
                Fault::OneConnection | Fault::Shortage => {
                    self.warn(format_args!(
                        "{error}; pausing {} ms",
                        self.pause.as_millis()
                    ));
                    std::thread::sleep(left.map_or(self.pause, |left| self.pause.min(left)));
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    if left.is_some_and(|left| left.is_zero()) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Until somebody is there, or the time is up.
    fn wait(&self, left: Option<Duration>) -> Result<(), AcceptError> {
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut asked = [PollFd::from_borrowed_fd(
            self.listener.as_fd(),
            PollFlags::IN,
        )];
        match rustix::event::poll(&mut asked, left.as_ref()) {
            Ok(_) | Err(Errno::INTR | Errno::NOMEM | Errno::AGAIN) => Ok(()),
            Err(error) => Err(self.unusable(error.into())),
        }
    }

    fn warn(&self, what: std::fmt::Arguments<'_>) {
        self.journal
            .warn(format_args!("accept on {}: {what}", self.address));
    }

    fn unusable(&self, source: io::Error) -> AcceptError {
        AcceptError {
            address: (*self.address).clone(),
            source,
        }
    }
}

fn blocking(accepted: Accepted) -> io::Result<Transport> {
    Ok(match accepted {
        Accepted::Packet(socket) => Transport::Packet(UnixSeqpacket::from_checked(socket)?),
        Accepted::Unix(socket) => {
            Transport::Stream(Stream::Unix(UnixStream::from_checked(socket)?))
        }
        Accepted::Tcp(socket) => {
            socket.set_nonblocking(false)?;
            Transport::Stream(Stream::Tcp(socket))
        }
    })
}
