//! Connecting without a runtime: the same options, the same deadline, the same demand on the server.

use std::os::fd::OwnedFd;

use super::{Stream, UnixSeqpacket, UnixStream};
use crate::address::Address;
use crate::connect::{
    ConnectError, ConnectOptions, Socket, connect_fd_blocking, connect_stream_blocking,
    register_failed,
};
use crate::listener::SocketKind;
use crate::peer::Peer;

/// Connects a stream: [`crate::connect`] without a runtime.
///
/// # Errors
/// As for [`crate::connect`].
pub fn connect(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(Stream, Peer), ConnectError> {
    let failed = |error| register_failed(address, error);
    let (socket, peer) = connect_stream_blocking(address, options)?;
    let stream = match socket {
        Socket::Unix(socket) => Stream::Unix(UnixStream::from_checked(socket).map_err(failed)?),
        Socket::Tcp(socket) => {
            socket.set_nonblocking(false).map_err(failed)?;
            Stream::Tcp(socket)
        }
    };
    Ok((stream, peer))
}

/// Connects a Unix socket of any kind: [`crate::connect_fd`] without a runtime; non-blocking too.
///
/// # Errors
/// As for [`crate::connect_fd`].
pub fn connect_fd(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(OwnedFd, Peer), ConnectError> {
    connect_fd_blocking(address, options)
}

/// Connects a packet socket, whatever kind the options name: [`crate::connect_packet`] without a runtime.
///
/// # Errors
/// As for [`crate::connect`]; `tcp:` and `https:` are refused.
pub fn connect_packet(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(UnixSeqpacket, Peer), ConnectError> {
    let options = options.clone().kind(SocketKind::Seqpacket);
    let (socket, peer) = connect_fd(address, &options)?;
    let socket =
        UnixSeqpacket::from_checked(socket).map_err(|error| register_failed(address, error))?;
    Ok((socket, peer))
}
