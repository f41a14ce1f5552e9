//! One try to connect, and what its failure means: not yet, or never.
//!
//! Trap: connecting to a regular file is refused just as to a dead server's socket; waiting for it would be for nothing.

use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Cause, ConnectFault, ConnectOperation, ConnectOptions};
use crate::address::Address;
use crate::listener::SocketKind;
use crate::publish::address_file;
use crate::publish::entry::FileKind;
use crate::sys::opt;

/// What `sun_path` takes, less its NUL.
const SUN_PATH_BYTES_MAX: usize = 107;

/// Why a try failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may go better in a moment.
    NotYet(Cause),
    /// It will not.
    Final(ConnectFault),
}

/// The address that a server has published, once it has: it may be another at the next try.
pub(super) fn published(file: &Path) -> Result<Address, Failure> {
    match address_file::read(file) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(Failure::NotYet(Cause::Missing)),
        Err(error) => Err(Failure::Final(ConnectFault::Published(error))),
    }
}

/// Tries a socket file.
pub(super) fn path(path: &Path, options: &ConnectOptions) -> Result<OwnedFd, Failure> {
    let refused = |error| match error {
        Errno::NOENT => Failure::NotYet(Cause::Missing),
        Errno::CONNREFUSED => refused(path),
        other => common(other, options.kind),
    };
    if path.as_os_str().len() <= SUN_PATH_BYTES_MAX {
        let address = SocketAddrUnix::new(path).map_err(refused)?;
        return once(&address, options).map_err(refused);
    }
    // What it leads through stays open until after the connect.
    let (short, _through) = shortened(path)?;
    let address = SocketAddrUnix::new(short).map_err(refused)?;
    once(&address, options).map_err(refused)
}

/// Tries an abstract name; without a server of this type there is no such name.
pub(super) fn abstract_name(name: &[u8], options: &ConnectOptions) -> Result<OwnedFd, Failure> {
    let refused = |error| match error {
        Errno::CONNREFUSED => Failure::NotYet(Cause::Missing),
        other => common(other, options.kind),
    };
    let address = SocketAddrUnix::new_abstract_name(name).map_err(refused)?;
    once(&address, options).map_err(refused)
}

/// Tries the host's addresses in turn; the last failure stands for all.
pub(super) async fn internet(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Err(Failure::Final(ConnectFault::Resolve(error))),
    };
    let none = io::Error::from(io::ErrorKind::NotFound);
    let mut failure = Failure::Final(ConnectFault::Resolve(none));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = internet_failure(error),
        }
    }
    Err(failure)
}

/// As [`internet`], blocking this thread, each address at most until the deadline.
pub(super) fn internet_blocking(
    host: &str,
    port: u16,
    deadline: Option<Instant>,
) -> Result<std::net::TcpStream, Failure> {
    let resolve = |error| Failure::Final(ConnectFault::Resolve(error));
    let mut failure = resolve(io::ErrorKind::NotFound.into());
    for address in (host, port).to_socket_addrs().map_err(resolve)? {
        let attempt = match deadline {
            None => std::net::TcpStream::connect(address),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Failure::NotYet(Cause::Silent));
                }
                std::net::TcpStream::connect_timeout(&address, left)
            }
        };
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = internet_failure(error),
        }
    }
    Err(failure)
}

fn internet_failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::NotYet(Cause::Refused),
        io::ErrorKind::TimedOut => Failure::NotYet(Cause::Silent),
        _ => Failure::Final(ConnectOperation::Connect.failed(error)),
    }
}

fn once(address: &SocketAddrUnix, options: &ConnectOptions) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = options.kind.socket_type();
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    if options.pass_credentials {
        opt::pass_credentials(socket.as_fd(), true)?;
    }
    loop {
        match rustix::net::connect(&socket, address) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn common(error: Errno, kind: SocketKind) -> Failure {
    match error {
        Errno::AGAIN => Failure::NotYet(Cause::Busy),
        Errno::ACCESS | Errno::PERM => Failure::Final(ConnectFault::Denied(error.into())),
        Errno::PROTOTYPE => Failure::Final(ConnectFault::WrongKind(kind)),
        other => Failure::Final(ConnectOperation::Connect.failed(other.into())),
    }
}

/// Refused: by a socket that nobody serves, or by something that is no socket.
fn refused(path: &Path) -> Failure {
    // Follows links, as connect does.
    match rustix::fs::stat(path).as_ref().map(FileKind::of) {
        Ok(FileKind::Socket) => Failure::NotYet(Cause::Refused),
        Ok(found) => Failure::Final(ConnectFault::NotASocket(found)),
        Err(_) => Failure::NotYet(Cause::Missing),
    }
}

/// A path that fits, and what must stay open while it is used, if anything.
pub(crate) fn short_path(path: &Path) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= SUN_PATH_BYTES_MAX {
        return Ok((bytes.to_vec(), None));
    }
    match shortened(path) {
        Ok((short, through)) => Ok((short, Some(through))),
        Err(Failure::NotYet(_)) => Err(io::ErrorKind::NotFound.into()),
        Err(Failure::Final(ConnectFault::Denied(error))) => Err(error),
        Err(Failure::Final(ConnectFault::System { source, .. })) => Err(source),
        Err(Failure::Final(_)) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// A path that fits, and what it leads through: the directory, or for a very long name the file itself.
fn shortened(path: &Path) -> Result<(Vec<u8>, OwnedFd), Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        // A bare name has no parent to open; it is relative to the working directory.
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let directory = open(parent, flags | OFlags::DIRECTORY)?;
        let short = proc_path(&directory, Some(name));
        if short.len() <= SUN_PATH_BYTES_MAX {
            return Ok((short, directory));
        }
    }
    let file = open(path, flags)?;
    Ok((proc_path(&file, None), file))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => Failure::NotYet(Cause::Missing),
        Errno::ACCESS => Failure::Final(ConnectFault::Denied(error.into())),
        other => Failure::Final(ConnectOperation::Open.failed(other.into())),
    })
}

/// `/proc/self/fd/N` or `/proc/self/fd/N/NAME`.
fn proc_path(fd: &OwnedFd, name: Option<&OsStr>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    path
}
