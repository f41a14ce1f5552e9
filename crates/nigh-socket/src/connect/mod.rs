//! The way to a server: one deadline over every try, and the server's identity before the first byte.
//!
//! Trap: a full queue (`EAGAIN`) cannot be waited for, the kernel reports the socket ready at once; it is tried again.

mod attempt;
mod blocking;
mod error;
mod patience;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

pub use error::{Cause, ConnectError, ConnectFault, ConnectOperation, RefusedServer};

use crate::address::Address;
use crate::inherit;
use crate::listener::SocketKind;
use crate::peer::{LocalPeer, Peer};
use crate::policy::Policy;
use crate::seqpacket::UnixSeqpacket;
use crate::stream::{Stream, UnixStream};
use crate::sys;
use crate::systemd;
use attempt::Failure;
pub(crate) use attempt::short_path;
pub(crate) use blocking::{Socket, connect_fd_blocking, connect_stream_blocking};
use patience::Patience;

/// How to connect. The default: a stream, within 5 seconds, waiting for a server that is not there yet, whoever it is.
#[derive(Debug, Clone)]
#[must_use]
pub struct ConnectOptions {
    timeout: Duration,
    wait: bool,
    server: Option<Policy>,
    kind: SocketKind,
    pass_credentials: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            wait: true,
            server: None,
            kind: SocketKind::Stream,
            pass_credentials: false,
        }
    }
}

impl ConnectOptions {
    /// The one deadline over name resolution, every try and the pauses between them. Default 5 s. A Unix socket is
    /// tried once even when it is zero.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether to wait, within the timeout, for a server that is missing or refuses. Default true. One whose queue is
    /// full is there, and is waited for in any case.
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Who the server must be, by what the kernel says of it; anything but a definite yes closes the connection before a
    /// byte is sent. Default: anybody.
    ///
    /// The kernel recorded the server when it called `listen`: with socket activation that is the activator, mostly
    /// root. Over TCP only `any` admits: an address proves nothing, and TLS comes later.
    pub fn server(mut self, policy: Policy) -> Self {
        self.server = Some(policy);
        self
    }

    /// Type of the socket, for [`connect_fd`]. Default [`SocketKind::Stream`].
    pub fn kind(mut self, kind: SocketKind) -> Self {
        self.kind = kind;
        self
    }

    /// Has each message that the server sends say who wrote it, from the first on: see [`Sender`](crate::Sender). Default
    /// false. It is asked for before connecting, so that no message is without; of what TCP brings, nobody can say it. The
    /// socket gets an abstract name of the kernel's choice.
    pub fn pass_credentials(mut self, pass: bool) -> Self {
        self.pass_credentials = pass;
        self
    }

    fn check_server(&self, peer: &Peer) -> Result<(), ConnectFault> {
        let Some(policy) = &self.server else {
            return Ok(());
        };
        let verdict = policy.evaluate(peer);
        if verdict.admits() {
            return Ok(());
        }
        Err(ConnectFault::Server(Box::new(RefusedServer {
            server: peer.clone(),
            demanded: policy.clone(),
            verdict,
        })))
    }
}

/// Connects a stream. Missing and refusing servers and full queues are tried again after 1, 2, 4 .. 100 ms until the
/// timeout. `tcp:` and `https:` are connected alike: TLS is up to the caller.
///
/// `published:FILE` is read before each try, and waited for like a missing server; what may be in it and who may have
/// written it is checked.
///
/// `fd:N` is taken over, once: a connected stream socket that this process inherited. It is closed if the server is not
/// the one demanded.
///
/// Must be called inside a tokio runtime with its clock and I/O.
///
/// # Errors
/// [`ConnectError`]: what is wrong at which address, after how many tries.
///
/// # Cancel safety
/// Dropping the future closes what it had opened; nothing was sent. `fd:N` is taken and returned in one poll.
pub async fn connect(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(Stream, Peer), ConnectError> {
    stream_to(address, options)
        .await
        .map_err(|fault| ConnectError::new(address.clone(), fault))
}

/// Connects a Unix socket of any kind: non-blocking, close-on-exec, in no reactor. Otherwise like [`connect`].
///
/// # Errors
/// As for [`connect`]; `tcp:` and `https:` are refused.
///
/// # Cancel safety
/// As for [`connect`].
pub async fn connect_fd(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(OwnedFd, Peer), ConnectError> {
    let connecting = async {
        let fd = local_to(address, options).await?;
        let peer = local_peer(&fd, options)?;
        Ok((fd, peer))
    };
    connecting
        .await
        .map_err(|fault| ConnectError::new(address.clone(), fault))
}

/// Connects a packet socket, whatever kind the options name. Otherwise like [`connect`].
///
/// # Errors
/// As for [`connect`]; `tcp:` and `https:` are refused.
///
/// # Cancel safety
/// As for [`connect`].
pub async fn connect_packet(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(UnixSeqpacket, Peer), ConnectError> {
    let options = options.clone().kind(SocketKind::Seqpacket);
    let (fd, peer) = connect_fd(address, &options).await?;
    let socket =
        UnixSeqpacket::from_checked(fd).map_err(|error| register_failed(address, error))?;
    Ok((socket, peer))
}

/// The connection stands, and nothing can be done with it.
pub(crate) fn register_failed(address: &Address, error: std::io::Error) -> ConnectError {
    ConnectError::new(address.clone(), ConnectOperation::Register.failed(error))
}

async fn stream_to(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(Stream, Peer), ConnectFault> {
    if options.kind != SocketKind::Stream {
        return Err(ConnectFault::Kind(options.kind));
    }
    match address {
        Address::Tcp { host, port } | Address::Https { host, port } => {
            address.check().map_err(ConnectFault::Malformed)?;
            remote(internet_to(host, *port, options).await?, options)
        }
        Address::Fd(number) => stream_of(taken(*number, SocketKind::Stream)?, options),
        Address::Activated(name) => stream_of(activated(name, SocketKind::Stream)?, options),
        Address::Published(file) => published_to(file, options).await,
        _ => local(local_to(address, options).await?, options),
    }
}

/// An inherited connection, and whether it is a Unix socket.
fn stream_of(
    (fd, is_local): (OwnedFd, bool),
    options: &ConnectOptions,
) -> Result<(Stream, Peer), ConnectFault> {
    if is_local {
        return local(fd, options);
    }
    let stream = TcpStream::from_std(fd.into());
    let stream = stream.map_err(|error| ConnectOperation::Register.failed(error))?;
    remote(stream, options)
}

/// Looks at the file before each try: a server that starts anew may have another address.
async fn published_to(
    file: &Path,
    options: &ConnectOptions,
) -> Result<(Stream, Peer), ConnectFault> {
    let mut patience = Patience::new(options);
    loop {
        let cause = match attempt::published(file) {
            Ok(Address::Tcp { host, port }) => {
                match internet_once(&host, port, patience.deadline()).await {
                    Ok(stream) => return remote(stream, options),
                    Err(Failure::NotYet(cause)) => cause,
                    Err(Failure::Final(fault)) => return Err(fault),
                }
            }
            Ok(address) => match attempt_local(&address, options)? {
                Ok(fd) => return local(fd, options),
                Err(cause) => cause,
            },
            Err(Failure::NotYet(cause)) => cause,
            Err(Failure::Final(fault)) => return Err(fault),
        };
        patience.wait_with_time_to_try(cause).await?;
    }
}

/// The address that clients of `published:FILE` use, read when there is one; every other address as it is. For
/// datagrams, which go to an address and need no connection.
///
/// # Errors
/// [`ConnectError`]: no file within the timeout, or one that cannot be relied on.
///
/// # Cancel safety
/// Cancel safe: nothing is opened that stays open.
pub async fn resolve(address: &Address, options: &ConnectOptions) -> Result<Address, ConnectError> {
    let resolving = async {
        let Address::Published(file) = address else {
            return Ok(address.clone());
        };
        address.check().map_err(ConnectFault::Malformed)?;
        let mut patience = Patience::new(options);
        loop {
            match attempt::published(file) {
                Ok(address) => return Ok(address),
                Err(Failure::NotYet(cause)) => patience.wait_after(cause).await?,
                Err(Failure::Final(fault)) => return Err(fault),
            }
        }
    };
    resolving
        .await
        .map_err(|fault| ConnectError::new(address.clone(), fault))
}

fn local(fd: OwnedFd, options: &ConnectOptions) -> Result<(Stream, Peer), ConnectFault> {
    let peer = local_peer(&fd, options)?;
    let stream = UnixStream::new(fd).map_err(|error| ConnectOperation::Register.failed(error))?;
    Ok((Stream::Unix(stream), peer))
}

fn remote(stream: TcpStream, options: &ConnectOptions) -> Result<(Stream, Peer), ConnectFault> {
    let address = stream.peer_addr();
    let peer = Peer::remote(address.map_err(|error| ConnectOperation::Identify.failed(error))?);
    options.check_server(&peer)?;
    Ok((Stream::Tcp(stream), peer))
}

fn local_peer(fd: impl AsFd, options: &ConnectOptions) -> Result<Peer, ConnectFault> {
    let peer = LocalPeer::of(fd).map_err(|error| ConnectOperation::Identify.failed(error))?;
    let peer = Peer::Local(peer);
    options.check_server(&peer)?;
    Ok(peer)
}

/// The inherited connection, and whether it is a Unix socket.
fn taken(number: RawFd, kind: SocketKind) -> Result<(OwnedFd, bool), ConnectFault> {
    let check = |fd: BorrowedFd<'_>| inherit::check_connection(fd, kind);
    let (fd, found) = match systemd::take_number(number, check)? {
        Some((fd, found)) => {
            inherit::prepare(fd.as_fd())?;
            (fd, found)
        }
        None => sys::inherit::take(number, check)?,
    };
    Ok((fd, found.is_local))
}

/// The connection that a service manager passed under that name (`Accept=yes` calls it `connection`).
fn activated(name: &str, kind: SocketKind) -> Result<(OwnedFd, bool), ConnectFault> {
    let check = |fd: BorrowedFd<'_>| inherit::check_connection(fd, kind);
    let (fd, found) = systemd::take_for(name, check)?;
    inherit::prepare(fd.as_fd())?;
    Ok((fd, found.is_local))
}

/// Tries once; a failure that may pass is the inner error.
fn attempt_local(
    address: &Address,
    options: &ConnectOptions,
) -> Result<Result<OwnedFd, Cause>, ConnectFault> {
    let attempt = match address {
        Address::Path(path) => attempt::path(path, options),
        Address::Abstract(name) => attempt::abstract_name(name, options),
        Address::Fd(number) => match taken(*number, options.kind)? {
            (fd, true) => Ok(fd),
            (_, false) => return Err(ConnectFault::NotLocal),
        },
        Address::Activated(name) => match activated(name, options.kind)? {
            (fd, true) => Ok(fd),
            (_, false) => return Err(ConnectFault::NotLocal),
        },
        Address::Published(file) => match attempt::published(file) {
            // It is none of that kind itself.
            Ok(address) => return attempt_local(&address, options),
            Err(failure) => Err(failure),
        },
        Address::Tcp { .. } | Address::Https { .. } => return Err(ConnectFault::NotLocal),
        Address::Autobind => return Err(ConnectFault::NotForConnecting),
    };
    match attempt {
        Ok(fd) => Ok(Ok(fd)),
        Err(Failure::NotYet(cause)) => Ok(Err(cause)),
        Err(Failure::Final(fault)) => Err(fault),
    }
}

async fn local_to(address: &Address, options: &ConnectOptions) -> Result<OwnedFd, ConnectFault> {
    address.check().map_err(ConnectFault::Malformed)?;
    let mut patience = Patience::new(options);
    loop {
        match attempt_local(address, options)? {
            Ok(fd) => return Ok(fd),
            Err(cause) => patience.wait_after(cause).await?,
        }
    }
}

async fn internet_to(
    host: &str,
    port: u16,
    options: &ConnectOptions,
) -> Result<TcpStream, ConnectFault> {
    let mut patience = Patience::new(options);
    loop {
        match internet_once(host, port, patience.deadline()).await {
            Ok(stream) => return Ok(stream),
            Err(Failure::Final(fault)) => return Err(fault),
            Err(Failure::NotYet(cause)) => patience.wait_with_time_to_try(cause).await?,
        }
    }
}

async fn internet_once(
    host: &str,
    port: u16,
    deadline: Option<Instant>,
) -> Result<TcpStream, Failure> {
    let trying = attempt::internet(host, port);
    match deadline {
        None => trying.await,
        Some(deadline) => tokio::time::timeout_at(deadline, trying)
            .await
            .unwrap_or(Err(Failure::NotYet(Cause::Silent))),
    }
}
