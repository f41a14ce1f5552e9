//! Connecting while a thread waits: the same tries and the same patience.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::attempt::{self, Failure};
use super::patience::Patience;
use super::{
    ConnectError, ConnectFault, ConnectOperation, ConnectOptions, attempt_local, local_peer, taken,
};
use crate::address::Address;
use crate::listener::SocketKind;
use crate::peer::Peer;

/// A connected stream socket before it is of any type.
pub(crate) enum Socket {
    Unix(OwnedFd),
    Tcp(TcpStream),
}

/// As [`connect_fd`](super::connect_fd), blocking this thread.
pub(crate) fn connect_fd_blocking(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(OwnedFd, Peer), ConnectError> {
    local(address, options).map_err(|fault| ConnectError::new(address.clone(), fault))
}

/// As [`connect`](super::connect), blocking this thread.
pub(crate) fn connect_stream_blocking(
    address: &Address,
    options: &ConnectOptions,
) -> Result<(Socket, Peer), ConnectError> {
    stream(address, options).map_err(|fault| ConnectError::new(address.clone(), fault))
}

fn stream(address: &Address, options: &ConnectOptions) -> Result<(Socket, Peer), ConnectFault> {
    if options.kind != SocketKind::Stream {
        return Err(ConnectFault::Kind(options.kind));
    }
    let stream = match address {
        Address::Tcp { host, port } | Address::Https { host, port } => {
            address.check().map_err(ConnectFault::Malformed)?;
            internet(host, *port, options)?
        }
        Address::Fd(number) => match taken(*number, SocketKind::Stream)? {
            (fd, true) => {
                let peer = local_peer(&fd, options)?;
                return Ok((Socket::Unix(fd), peer));
            }
            (fd, false) => TcpStream::from(fd),
        },
        Address::Published(file) => match published(file, options)? {
            Address::Tcp { host, port } | Address::Https { host, port } => {
                internet(&host, port, options)?
            }
            // Read again with each try: the server may be another by then.
            _ => {
                let (fd, peer) = local(address, options)?;
                return Ok((Socket::Unix(fd), peer));
            }
        },
        _ => {
            let (fd, peer) = local(address, options)?;
            return Ok((Socket::Unix(fd), peer));
        }
    };
    let address = stream.peer_addr();
    let peer = Peer::remote(address.map_err(|error| ConnectOperation::Identify.failed(error))?);
    options.check_server(&peer)?;
    Ok((Socket::Tcp(stream), peer))
}

/// The address that a server publishes, once it does.
fn published(file: &Path, options: &ConnectOptions) -> Result<Address, ConnectFault> {
    let mut patience = Patience::new(options);
    loop {
        match attempt::published(file) {
            Ok(address) => return Ok(address),
            Err(Failure::Final(fault)) => return Err(fault),
            Err(Failure::NotYet(cause)) => std::thread::sleep(patience.pause_after(cause)?),
        }
    }
}

fn local(address: &Address, options: &ConnectOptions) -> Result<(OwnedFd, Peer), ConnectFault> {
    address.check().map_err(ConnectFault::Malformed)?;
    let mut patience = Patience::new(options);
    loop {
        match attempt_local(address, options)? {
            Ok(fd) => {
                let peer = local_peer(&fd, options)?;
                return Ok((fd, peer));
            }
            Err(cause) => std::thread::sleep(patience.pause_after(cause)?),
        }
    }
}

fn internet(host: &str, port: u16, options: &ConnectOptions) -> Result<TcpStream, ConnectFault> {
    let mut patience = Patience::new(options);
    loop {
        match attempt::internet_blocking(host, port, patience.deadline()) {
            Ok(stream) => return Ok(stream),
            Err(Failure::Final(fault)) => return Err(fault),
            Err(Failure::NotYet(cause)) => {
                std::thread::sleep(patience.pause_with_time_to_try(cause)?);
            }
        }
    }
}
