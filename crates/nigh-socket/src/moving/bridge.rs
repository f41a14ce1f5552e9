//! A bridge: what comes from one stream goes to the other, both ways at once, until both directions have ended.
//!
//! socket -> pipe -> socket by `splice`, page by page and without a copy in this process; or through a buffer, where the
//! kernel does not splice. Trap: an error must not look like the end to whoever reads, so it ends both directions.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use rustix::pipe::SpliceFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Pipe, again, splice_once};
use crate::kinds::ByteStream;
use crate::registered::Registered;

/// What is moved at once: a pipe's capacity, or a buffer's.
const PIECE_BYTES: usize = 256 * 1024;

/// For a copy: what a Unix socket takes in one piece by default and no more.
const BUFFER_BYTES: usize = 64 * 1024;

/// What became of a bridge.
#[derive(Debug)]
pub struct Bridged {
    /// From the first stream to the second.
    pub there: Flow,
    /// From the second stream to the first.
    pub back: Flow,
}

/// What became of one direction.
#[derive(Debug)]
pub struct Flow {
    /// Bytes that the receiving socket took.
    pub bytes: u64,
    /// How they went.
    pub way: Way,
    /// The end of the stream came and was passed on; or why not.
    pub outcome: Result<(), FlowError>,
}

/// How bytes went from one stream to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// The kernel moved them; none was copied through this process.
    Spliced,
    /// They were copied through a buffer of this process, because the streams are of a kind that is not spliced, or
    /// because the kernel refused to with this error.
    Copied(Option<io::ErrorKind>),
}

/// Why one direction of a bridge stopped before the end of its stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// The stream could not be read to its end. Both directions stopped, and both streams were closed.
    #[error("the stream broke off")]
    Read(#[source] io::Error),
    /// The end came and was passed on; but that peer has closed with bytes of the other direction unread.
    #[error("the peer closed without reading all")]
    Unread,
    /// The other stream took no more. The other direction went on, unless it was reset (TCP): that one broke off, then.
    #[error("the other stream takes no more")]
    Write(#[source] io::Error),
    /// Nothing was wrong here: the other direction broke off.
    #[error("the other direction broke off")]
    Stopped,
}

impl FlowError {
    /// What kind of error it was; `None` where it was the other direction's.
    #[must_use]
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Read(source) | Self::Write(source) => Some(source.kind()),
            Self::Unread => Some(io::ErrorKind::ConnectionReset),
            Self::Stopped => None,
        }
    }
}

/// Connects two streams with each other until both directions have ended, and closes them. The bytes are spliced: none is
/// copied through this process, where the kernel allows that.
///
/// The end of one direction is passed on and the other goes on. Where a stream takes no more, that direction ends, and its
/// source is told by refusing what it sends. Where one breaks off, both end: a TCP peer gets a reset then, while a Unix peer
/// sees the end like any other, for it has nothing else.
///
/// Descriptors cannot cross: those that come with bytes are closed by the kernel. And what is on its way refers to the
/// sender's pages: where that used `sendfile` or `splice` itself, a later change of the file is seen at the other end.
///
/// It takes up to ten descriptors: two for each stream, and a pipe for each direction.
///
/// # Errors
/// What the reactor reports when a stream cannot be registered; then nothing was moved. Must be called inside a tokio
/// runtime.
///
/// # Cancel safety
/// Dropping the future closes both streams; up to 256 KiB each way that were read are lost then.
pub async fn bridge(a: impl ByteStream, b: impl ByteStream) -> io::Result<Bridged> {
    let (near, far) = (End::of(&a)?, End::of(&b)?);
    let (mut there, mut back) = (Progress::new(), Progress::new());
    let outcomes = both(pass(&near, &far, &mut there), pass(&far, &near, &mut back)).await;
    if outcomes.broke_off() {
        near.abort();
        far.abort();
    }
    Ok(outcomes.of(there, back))
}

/// As [`bridge`], for streams of any kind, through a buffer of 64 KiB for each direction: for TLS, or a program's own.
///
/// # Cancel safety
/// As for [`bridge`].
pub async fn bridge_copying<A, B>(a: A, b: B) -> Bridged
where
    A: AsyncRead + AsyncWrite + Send,
    B: AsyncRead + AsyncWrite + Send,
{
    let (mut a_reads, mut a_writes) = tokio::io::split(a);
    let (mut b_reads, mut b_writes) = tokio::io::split(b);
    let way = Way::Copied(None);
    let (mut there, mut back) = (Progress { bytes: 0, way }, Progress { bytes: 0, way });
    let outcomes = both(
        copy(&mut a_reads, &mut b_writes, &mut there),
        copy(&mut b_reads, &mut a_writes, &mut back),
    )
    .await;
    outcomes.of(there, back)
}

/// What one direction has done so far, also if it is stopped.
#[derive(Debug)]
struct Progress {
    bytes: u64,
    way: Way,
}

impl Progress {
    fn new() -> Self {
        Self {
            bytes: 0,
            way: Way::Spliced,
        }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_add(bytes.try_into().unwrap_or(u64::MAX));
    }
}

type Outcome = Result<(), FlowError>;

/// How each direction ended; the one that was stopped did not.
#[derive(Debug, Default)]
struct Outcomes {
    there: Option<Outcome>,
    back: Option<Outcome>,
}

impl Outcomes {
    fn broke_off(&self) -> bool {
        self.there.as_ref().is_some_and(broke_off) || self.back.as_ref().is_some_and(broke_off)
    }

    fn of(self, there: Progress, back: Progress) -> Bridged {
        let flow = |progress: Progress, outcome: Option<Outcome>| Flow {
            bytes: progress.bytes,
            way: progress.way,
            outcome: outcome.unwrap_or(Err(FlowError::Stopped)),
        };
        Bridged {
            there: flow(there, self.there),
            back: flow(back, self.back),
        }
    }
}

/// Both directions to their end, or until one breaks off.
async fn both(
    there: impl Future<Output = Outcome>,
    back: impl Future<Output = Outcome>,
) -> Outcomes {
    let (mut there, mut back) = (pin!(there), pin!(back));
    let mut outcomes = Outcomes::default();
    loop {
        let outcome = tokio::select! {
            done = &mut there, if outcomes.there.is_none() => outcomes.there.insert(done),
            done = &mut back, if outcomes.back.is_none() => outcomes.back.insert(done),
            else => return outcomes,
        };
        if broke_off(outcome) {
            return outcomes;
        }
    }
}

/// Whether what was received before can be missing its end. A reset is told once, to whoever asks first: the writer, too.
fn broke_off(outcome: &Outcome) -> bool {
    match outcome {
        Err(FlowError::Read(_)) => true,
        Err(FlowError::Write(error)) => error.kind() == io::ErrorKind::ConnectionReset,
        Ok(()) | Err(FlowError::Unread | FlowError::Stopped) => false,
    }
}

/// One end of a bridge, in the reactor by a registration of its own: the stream's stays with its type.
struct End {
    socket: Registered,
    is_local: bool,
    is_write_shut: AtomicBool,
}

impl End {
    fn of(stream: &impl ByteStream) -> io::Result<Self> {
        Ok(Self {
            socket: Registered::new(stream.as_fd().try_clone_to_owned()?)?,
            is_local: stream.as_unix().is_some(),
            is_write_shut: AtomicBool::new(false),
        })
    }

    /// What it means that there is nothing more to read.
    ///
    /// Trap: `splice` takes a TCP reset for the end, and tells nobody of one that it met in the middle of a write.
    fn end(&self) -> Outcome {
        if self.is_local {
            return Ok(());
        }
        match sockopt::socket_error(&self.socket) {
            // Reset after its end, by what we sent since.
            Ok(Err(Errno::PIPE)) => Err(FlowError::Unread),
            Ok(Err(errno)) => Err(FlowError::Read(errno.into())),
            _ if self.is_dead() && !self.is_write_shut.load(Ordering::Relaxed) => {
                Err(FlowError::Read(io::ErrorKind::ConnectionReset.into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether both directions have ended: ours too, and not by us, is what a reset leaves.
    fn is_dead(&self) -> bool {
        let mut asked = [PollFd::new(&self.socket, PollFlags::HUP)];
        let answer = rustix::event::poll(&mut asked, Some(&Timespec::default()));
        answer.is_ok_and(|ready| ready > 0)
    }

    /// A peer that is gone has ended both directions already.
    fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            self.is_write_shut.store(true, Ordering::Relaxed);
        }
        // Nothing is left to be told, then.
        let _ = rustix::net::shutdown(&self.socket, how);
    }

    /// Has the last close send a reset, which a Unix socket has none of.
    fn abort(&self) {
        if !self.is_local {
            let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
    }
}

/// One direction, and what its end means to the two sockets.
async fn pass(from: &End, to: &End, progress: &mut Progress) -> Outcome {
    let outcome = match Pipe::new() {
        Ok(pipe) => splice(from, to, &pipe, progress).await,
        Err(error) => {
            progress.way = Way::Copied(Some(error.kind()));
            relay(from, to, progress).await
        }
    };
    match outcome {
        Ok(()) | Err(FlowError::Unread) => to.shutdown(Shutdown::Write),
        Err(FlowError::Write(_)) => from.shutdown(Shutdown::Read),
        Err(FlowError::Read(_) | FlowError::Stopped) => {}
    }
    outcome
}

async fn splice(from: &End, to: &End, pipe: &Pipe, progress: &mut Progress) -> Outcome {
    let flags = SpliceFlags::NONBLOCK;
    // The user's allowance for pipes may be used up: a small one does it too.
    let _ = pipe.set_capacity(PIECE_BYTES);
    loop {
        let taken = from
            .socket
            .read(|fd| attempt(|| splice_once(fd, pipe.writer(), PIECE_BYTES, flags)));
        let mut left = match taken.await.map_err(FlowError::Read)? {
            Ok(0) => return from.end(),
            Ok(taken) => taken,
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) if progress.bytes == 0 => {
                progress.way = Way::Copied(Some(io::ErrorKind::Unsupported));
                return relay(from, to, progress).await;
            }
            Err(errno) if is_end(from, errno) => return Err(FlowError::Unread),
            Err(errno) => return Err(FlowError::Read(errno.into())),
        };
        while left > 0 {
            let moved = to
                .socket
                .write(|fd| attempt(|| splice_once(pipe.reader(), fd, left, flags)));
            match moved.await.map_err(FlowError::Write)? {
                Ok(0) => return Err(FlowError::Write(io::ErrorKind::WriteZero.into())),
                Ok(moved) => {
                    left -= moved;
                    progress.add(moved);
                }
                Err(errno) => return Err(FlowError::Write(errno.into())),
            }
        }
    }
}

/// A Unix peer that closes with bytes of ours unread is told of as a reset, after all that it sent.
fn is_end(from: &End, errno: Errno) -> bool {
    from.is_local && errno == Errno::CONNRESET
}

/// As [`splice`], through a buffer.
async fn relay(from: &End, to: &End, progress: &mut Progress) -> Outcome {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = from
            .socket
            .read(|fd| attempt(|| rustix::net::recv(fd, &mut buffer[..], RecvFlags::DONTWAIT)));
        let received = match received.await.map_err(FlowError::Read)? {
            Ok((0, _)) => return from.end(),
            Ok((received, _)) => received,
            Err(errno) if is_end(from, errno) => return Err(FlowError::Unread),
            Err(errno) => return Err(FlowError::Read(errno.into())),
        };
        let mut rest = buffer.get(..received).unwrap_or_default();
        while !rest.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = to
                .socket
                .write(|fd| attempt(|| rustix::net::send(fd, rest, flags)));
            let sent = sent.await.map_err(FlowError::Write)?;
            let sent = sent.map_err(|errno| FlowError::Write(errno.into()))?;
            rest = rest.get(sent..).unwrap_or_default();
            progress.add(sent);
        }
    }
}

/// One direction between streams of any kind.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    progress: &mut Progress,
) -> Outcome {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = from.read(&mut buffer).await.map_err(FlowError::Read)?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        if rest.is_empty() {
            return to.shutdown().await.map_err(FlowError::Write);
        }
        while !rest.is_empty() {
            let sent = to.write(rest).await.map_err(FlowError::Write)?;
            if sent == 0 {
                return Err(FlowError::Write(io::ErrorKind::WriteZero.into()));
            }
            rest = rest.get(sent..).unwrap_or_default();
            progress.add(sent);
        }
        to.flush().await.map_err(FlowError::Write)?;
    }
}

/// `None` when it would have to wait.
fn attempt<T>(call: impl FnMut() -> Result<T, Errno>) -> Option<Result<T, Errno>> {
    match again(call) {
        Err(Errno::AGAIN) => None,
        done => Some(done),
    }
}
