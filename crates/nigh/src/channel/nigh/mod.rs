//! The nigh wire, the client's side (docs/wire/nigh.md): one connection, shared by all calls of a channel.
//!
//! Who reads and writes is whoever holds the [`Line`](crate::link::line::Line): the connection's own task, the driver, or
//! a call that is the only one and whose whole request is known. Such a call writes and reads itself, while it is
//! polled; it gives the line back each time it waits, so a call that nobody polls holds nothing.

mod again;
mod call;
mod driver;
mod frames;
#[cfg(test)]
mod model;
mod state;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use nigh_socket::lane::LaneError;
use nigh_socket::{Address, Spin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

pub(super) use call::{Refused, call};
use state::Client;

use crate::frame::greeting::{DESCRIPTORS, Greeting, SHARED_MEMORY, VERSION};
use crate::frame::{Accepted, Violation};
use crate::io::Io;
use crate::link::Link;
use crate::link::keepalive::Keepalive;
use crate::link::line::Line;
use crate::shared_memory::{self, SharedMemory};

/// What the channel takes: large enough that a local transfer never waits for credit.
const OURS: Greeting = Greeting {
    version: VERSION,
    features: 0,
    frame_bytes_max: 256 * 1024,
    header_bytes_max: 64 * 1024,
    stream_window: 4 * 1024 * 1024,
    connection_window: 8 * 1024 * 1024,
    streams_max: 0,
    paths_max: 0,
    descriptors_max: 0,
};

/// Why a server is not spoken to over the nigh wire.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetingError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("the server closed the connection")]
    Closed,
    #[error("{0}")]
    SharedMemory(#[from] LaneError),
}

impl From<GreetingError> for std::io::Error {
    fn from(error: GreetingError) -> Self {
        match error {
            GreetingError::Io(error) => error,
            // As the kernel says it of one that was killed before it had read anything.
            closed @ GreetingError::Closed => Self::new(std::io::ErrorKind::UnexpectedEof, closed),
            other => Self::other(other),
        }
    }
}

/// A connection's calls and its line.
#[derive(Debug)]
pub(super) struct Conn {
    link: Arc<Link<Client>>,
    /// Places for calls, as many as the server takes at once; closed once no call may begin here.
    permits: Arc<Semaphore>,
    address: Address,
}

/// Keeps the connection; without handles it ends after its last call.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) conn: Arc<Conn>,
}

impl Handle {
    /// Whether a call may still begin here.
    pub(super) fn is_closed(&self) -> bool {
        self.conn.permits.is_closed()
    }

    /// Whether both sides agreed on descriptors.
    pub(super) fn carries_descriptors(&self) -> bool {
        self.conn.link.fds.is_some()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.conn.link.change(|state, later| {
            state.own.is_unwanted = true;
            state.own.drive();
            later.wake(state.nudge());
        });
    }
}

/// Greets the server; on success the connection and the future that drives it.
pub(super) async fn open(
    mut io: Io,
    address: Address,
    keepalive: Option<(Duration, Duration)>,
    (shared_memory, spin): (&SharedMemory, Spin),
) -> Result<(Handle, impl Future<Output = ()> + Send + use<>), GreetingError> {
    // Descriptors stay on the socket: who asks for them is offered no shared memory (13.10).
    let (ours, (theirs, rest)) = match io.link() {
        Some(fds) => {
            let ours = Greeting {
                features: OURS.features | DESCRIPTORS,
                descriptors_max: fds.per_message(),
                ..OURS
            };
            (ours, greet(&mut io, ours).await?)
        }
        None if shared_memory.suits(&io) => (OURS, greet_offering(&mut io, shared_memory).await?),
        None => (OURS, greet(&mut io, OURS).await?),
    };
    let mut fds = io.link();
    match &fds {
        Some(fds) if theirs.features & DESCRIPTORS != 0 => {
            fds.ride_on_frames(theirs.descriptors_max);
        }
        _ => {
            fds = None;
            io = io.shed_descriptors();
        }
    }
    io.suit_frames(spin);
    let accepted = Accepted {
        descriptors: fds.is_some(),
        ..ours.accepted()
    };
    let line = Line::new(io, accepted, rest);
    let places = usize::try_from(theirs.streams_max).unwrap_or(usize::MAX);
    let permits = Arc::new(Semaphore::new(places.min(1 << 16)));
    let own = Client::new(
        theirs.paths_max,
        Arc::clone(&permits),
        line,
        keepalive.is_some(),
    );
    let conn = Arc::new(Conn {
        link: Arc::new(Link::new((ours, theirs), own, fds)),
        permits,
        address,
    });
    let handle = Handle {
        conn: Arc::clone(&conn),
    };
    let keepalive = keepalive.map(|(interval, timeout)| Keepalive::new(interval, timeout));
    Ok((handle, driver::drive(conn, keepalive)))
}

/// Sends the greeting and reads the server's; what came behind it.
async fn greet(io: &mut Io, ours: Greeting) -> Result<(Greeting, BytesMut), GreetingError> {
    io.write_all(&ours.encode()).await?;
    io.flush().await?;
    let mut read = BytesMut::with_capacity(256);
    loop {
        if io.read_buf(&mut read).await? == 0 {
            return Err(GreetingError::Closed);
        }
        if let Some((theirs, length)) = decode(&read)? {
            return Ok((theirs, read.split_off(length)));
        }
    }
}

/// As [`greet`], and moves to shared memory if the server sends some (clause 14).
async fn greet_offering(
    io: &mut Io,
    shared_memory: &SharedMemory,
) -> Result<(Greeting, BytesMut), GreetingError> {
    let offer = Greeting {
        features: OURS.features | SHARED_MEMORY,
        ..OURS
    };
    io.write_all(&offer.encode()).await?;
    io.flush().await?;
    let (mut read, mut descriptors) = (BytesMut::new(), Vec::new());
    let (theirs, length) = loop {
        let socket = io.unix().ok_or(GreetingError::Closed)?;
        let mut buffer = [0; 256];
        let chunk = socket.recv_with_fds(&mut buffer).await;
        let chunk = chunk.map_err(std::io::Error::other)?;
        if chunk.length == 0 {
            return Err(GreetingError::Closed);
        }
        read.extend_from_slice(buffer.get(..chunk.length).unwrap_or_default());
        descriptors.extend(chunk.fds);
        if descriptors.len() > shared_memory::DESCRIPTORS {
            return Err(Violation::SharedMemory.into());
        }
        if let Some(found) = decode(&read)? {
            break found;
        }
    };
    let rest = read.split_off(length);
    if theirs.features & SHARED_MEMORY != 0 {
        let lane = SharedMemory::accept(descriptors)?;
        if !rest.is_empty() {
            return Err(Violation::SharedMemory.into());
        }
        io.switch(lane, shared_memory.policy())?;
    } else if !descriptors.is_empty() {
        return Err(Violation::SharedMemory.into());
    }
    Ok((theirs, rest))
}

/// The server's greeting and its length, once it is there.
fn decode(read: &[u8]) -> Result<Option<(Greeting, usize)>, Violation> {
    let found = Greeting::decode(read)?;
    match found {
        Some((theirs, _)) if theirs.version > VERSION => Err(Violation::Version {
            offered: VERSION,
            answered: theirs.version,
        }),
        found => Ok(found),
    }
}
