//! Packets and datagrams as a program receives them that writes the calls itself and wants what nigh gives by default:
//! room for descriptors, no silent truncation, and the stamp that tells an empty packet from the end.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nigh_socket::blocking;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;

use super::Kind;
use super::sides::{Async, Blocking, whole};
use crate::Failure;

/// Room for as many descriptors as a message may bring, credentials and a stamp, as nigh has it.
const CONTROL_BYTES: usize = 1200;

/// A socket whose calls are written out.
pub(super) struct Hand<S>(S);

/// Sets the options that nigh sets; they belong to the socket, whoever set them.
fn as_nigh_makes_it(kind: Kind, socket: &OwnedFd) -> Result<(), Failure> {
    let same = socket.try_clone()?;
    if kind == Kind::Seqpacket {
        drop(blocking::UnixSeqpacket::new(same)?);
    } else {
        drop(blocking::UnixDatagram::new(same)?);
    }
    Ok(())
}

impl Hand<OwnedFd> {
    pub(super) fn blocking(kind: Kind, socket: OwnedFd) -> Result<Self, Failure> {
        as_nigh_makes_it(kind, &socket)?;
        Ok(Self(socket))
    }
}

impl Hand<tokio::net::UnixDatagram> {
    pub(super) fn polled(kind: Kind, socket: OwnedFd) -> Result<Self, Failure> {
        as_nigh_makes_it(kind, &socket)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = std::os::unix::net::UnixDatagram::from(socket);
        Ok(Self(tokio::net::UnixDatagram::from_std(socket)?))
    }
}

fn put(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let mut nothing = SendAncillaryBuffer::default();
    let slices = [IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &slices, &mut nothing, SendFlags::NOSIGNAL)
}

fn take(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut room = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC;
    let mut slices = [IoSliceMut::new(buffer)];
    let received = rustix::net::recvmsg(socket, &mut slices, &mut control, flags)?;
    // Whoever wants no descriptor to leak looks.
    let count = control.drain().count();
    std::hint::black_box((count, received.address));
    Ok(received.bytes)
}

impl Blocking for Hand<OwnedFd> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        put(self.0.as_fd(), bytes)?;
        Ok(())
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        whole(take(self.0.as_fd(), buffer)?, buffer.len())
    }
}

impl Async for Hand<tokio::net::UnixDatagram> {
    async fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Self(socket) = self;
        let put = || Ok(put(socket.as_fd(), bytes)?);
        socket.async_io(Interest::WRITABLE, put).await?;
        Ok(())
    }

    async fn take(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        let Self(socket) = self;
        let room = buffer.len();
        let take = || Ok(take(socket.as_fd(), buffer)?);
        whole(socket.async_io(Interest::READABLE, take).await?, room)
    }
}
