//! Asks the kernel for its Unix sockets over netlink; needs no privilege and sees this network namespace.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::IntrospectError;
use super::message::{self, Diag, Progress};

/// More sockets than this are not listed: they would take some 50 MiB here.
const SOCKETS_MAX: usize = 262_144;

/// The kernel fills at most 32 KiB per datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// The kernel answers from memory; a longer silence is a fault.
const PATIENCE: Duration = Duration::from_secs(5);

/// Only our own socket gets our replies, so any number will do.
const SEQUENCE: u32 = 1;

/// Every Unix socket of this network namespace.
pub(super) fn sockets() -> Result<Vec<Diag>, IntrospectError> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )
    .map_err(failed("open a sock_diag socket"))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
        .map_err(failed("set up a sock_diag socket"))?;
    let kernel = SocketAddrNetlink::new(0, 0);
    let request = message::request(SEQUENCE);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &kernel)
        .map_err(failed("ask for the Unix sockets"))?;

    let mut found = Vec::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = rustix::net::recvfrom(&socket, buffer.as_mut_slice(), RecvFlags::TRUNC);
        let (held, length, sender) = match received {
            Err(Errno::INTR) => continue,
            received => received.map_err(failed("read the list of Unix sockets"))?,
        };
        let from = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        if from.is_none_or(|from| from.pid() != 0) {
            continue;
        }
        if length > held {
            return Err(IntrospectError::Truncated { length });
        }
        match message::parse(&buffer[..held], SEQUENCE, &mut found)? {
            Progress::Done => return Ok(found),
            Progress::Refused(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                return Err(IntrospectError::Kernel {
                    operation: "list the Unix sockets",
                    error,
                });
            }
            Progress::More if found.len() > SOCKETS_MAX => {
                return Err(IntrospectError::TooMany { limit: SOCKETS_MAX });
            }
            Progress::More => {}
        }
    }
}

fn failed(operation: &'static str) -> impl Fn(Errno) -> IntrospectError {
    move |error| IntrospectError::Kernel {
        operation,
        error: error.into(),
    }
}
