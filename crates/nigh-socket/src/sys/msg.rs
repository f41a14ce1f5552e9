//! `recvmsg` and `sendmsg` with descriptors and credentials: what arrives is owned before anything is looked at.
//!
//! Trap: a control buffer made for one descriptor has room for two, and a pidfd comes with each message once it was asked
//! for; what is not taken from the buffer leaks. So the buffer holds all that can come, and all of it is taken.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::opt::Credentials;
use crate::cmsg::{self, Control, Malformed};

/// What the kernel takes per message (`SCM_MAX_FD`).
pub(crate) const FDS_MAX: usize = 253;

/// What the kernel takes per call (`UIO_MAXIOV`).
pub(crate) const SLICES_MAX: usize = 1024;

/// Of linux/socket.h (Linux 6.5).
const SCM_PIDFD: i32 = 4;

/// Every descriptor, the credentials, the pidfd and the time stamp.
pub(super) const CONTROL_BYTES: usize =
    cmsg::space(FDS_MAX * 4) + cmsg::space(12) + cmsg::space(4) + cmsg::space(16);

pub(super) const FDS_BYTES: usize = cmsg::space(FDS_MAX * 4);

/// `struct sockaddr_un`, and room for a kernel that reports more than it has.
const NAME_BYTES: usize = NAME_LENGTH as usize;
pub(super) const NAME_LENGTH: libc::socklen_t = 128;

/// Aligned as `struct cmsghdr` is.
#[repr(C, align(8))]
pub(super) struct Aligned<const N: usize>([u8; N]);

impl<const N: usize> Aligned<N> {
    pub(super) const fn new() -> Self {
        Self([0; N])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

thread_local! {
    /// One per thread, because clearing it takes as long as a tenth of a receive. What an earlier message left in it is
    /// never looked at: the kernel says how much it wrote.
    static CONTROL: RefCell<Aligned<CONTROL_BYTES>> =
        const { RefCell::new(Aligned::new()) };
}

/// A received message, all of whose descriptors are owned.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Of the whole message on packets and datagrams, also when it did not fit; of what was copied on streams.
    pub(crate) length: usize,
    /// It did not fit; the rest is gone.
    pub(crate) is_truncated: bool,
    /// Descriptors (or credentials) are missing, for want of free descriptors here.
    pub(crate) is_control_truncated: bool,
    /// Whether anything came beside the data: never at the end of the stream of packets.
    pub(crate) has_control: bool,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) credentials: Option<Credentials>,
    /// A descriptor of the sender's process, if it was asked for; or why there is none.
    pub(crate) process: Option<Result<OwnedFd, Errno>>,
}

/// The address of a datagram's sender as the kernel wrote it, the family first; empty if the sender has none.
#[derive(Debug)]
pub(crate) struct RawName {
    bytes: [u8; NAME_BYTES],
    length: usize,
}

impl RawName {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; NAME_BYTES],
            length: 0,
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    /// As the kernel said it, which may be more than fits.
    pub(super) fn set_length(&mut self, length: libc::socklen_t) {
        self.length = usize::try_from(length).unwrap_or(usize::MAX);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

/// How to receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Wait for a message, as the socket's own flags and timeout say.
    pub(crate) waits: bool,
    /// Bytes without boundaries: what is not read now is read next.
    pub(crate) is_stream: bool,
}

/// Receives one message into `slices`. The name of the sender goes to `name`.
#[inline]
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    slices: &mut [IoSliceMut<'_>],
    manner: Manner,
    name: Option<&mut RawName>,
) -> Result<Arrival, Errno> {
    CONTROL.with_borrow_mut(|control| receive_with(control, socket, slices, manner, name))
}

#[inline]
fn receive_with(
    control: &mut Aligned<CONTROL_BYTES>,
    socket: BorrowedFd<'_>,
    slices: &mut [IoSliceMut<'_>],
    manner: Manner,
    name: Option<&mut RawName>,
) -> Result<Arrival, Errno> {
    let mut header = empty_header();
    header.msg_iov = slices.as_mut_ptr().cast();
    header.msg_iovlen = slices.len().min(SLICES_MAX) as _;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    let mut name = name;
    if let Some(name) = name.as_deref_mut() {
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = NAME_LENGTH;
    }
    let mut flags = libc::MSG_CMSG_CLOEXEC;
    if !manner.waits {
        flags |= libc::MSG_DONTWAIT;
    }
    if !manner.is_stream {
        // The length is then the message's own, whatever room there is.
        flags |= libc::MSG_TRUNC;
    }
    // SAFETY: `socket` is open while borrowed. `msg_iov` points to `msg_iovlen` slices (an `IoSliceMut` is laid out as
    // an `iovec`), `msg_control` and `msg_name` to `CONTROL_BYTES` and `NAME_BYTES`; all of them are borrowed mutably
    // until after the call, and every byte pattern is a valid `u8`.
    let outcome = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(length) = usize::try_from(outcome) else {
        return Err(last_error());
    };
    if let Some(name) = name {
        name.set_length(header.msg_namelen);
    }
    Arrival::of(&header, length, &control.0)
}

/// As [`receive`], where nothing can come beside the bytes.
pub(crate) fn receive_plain(
    socket: BorrowedFd<'_>,
    slice: &mut IoSliceMut<'_>,
    waits: bool,
) -> Result<Arrival, Errno> {
    let mut flags = RecvFlags::TRUNC;
    flags.set(RecvFlags::DONTWAIT, !waits);
    let (copied, length) = rustix::net::recv(socket, &mut **slice, flags)?;
    Ok(Arrival {
        is_truncated: length > copied,
        ..Arrival::empty(length)
    })
}

/// As [`receive_plain`], to behind what `memory` holds, into its spare capacity.
pub(crate) fn receive_plain_behind(
    socket: BorrowedFd<'_>,
    memory: &mut Vec<u8>,
    waits: bool,
) -> Result<Arrival, Errno> {
    let mut flags = RecvFlags::TRUNC;
    flags.set(RecvFlags::DONTWAIT, !waits);
    let spare = rustix::buffer::spare_capacity(memory);
    let (copied, length) = rustix::net::recv(socket, spare, flags)?;
    Ok(Arrival {
        is_truncated: length > copied,
        ..Arrival::empty(length)
    })
}

/// As [`receive_plain`], with the name of the sender.
pub(crate) fn receive_plain_from(
    socket: BorrowedFd<'_>,
    slice: &mut IoSliceMut<'_>,
    name: &mut RawName,
    waits: bool,
) -> Result<Arrival, Errno> {
    let mut name_length = NAME_LENGTH;
    let mut flags = libc::MSG_TRUNC;
    if !waits {
        flags |= libc::MSG_DONTWAIT;
    }
    // SAFETY: `socket` is open while borrowed; the kernel writes at most as many bytes as the slice and the name have, which
    // are borrowed mutably and take every byte pattern, and `name_length`, which outlives the call.
    let outcome = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            slice.as_mut_ptr().cast(),
            slice.len(),
            flags,
            name.as_mut_ptr().cast(),
            &raw mut name_length,
        )
    };
    let length = usize::try_from(outcome).map_err(|_| last_error())?;
    name.set_length(name_length);
    Ok(Arrival {
        is_truncated: length > slice.len(),
        ..Arrival::empty(length)
    })
}

/// The length of the next message, which stays, and whether anything comes beside its bytes: never at the end of a
/// connection of packets. As much as fits is copied to `buffer`.
///
/// Trap: each look with room for descriptors opens duplicates of them. So there is room for a time stamp and no more, and
/// none where there is no stamp to fill it.
pub(crate) fn peek(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    manner: Manner,
    is_stamped: bool,
) -> Result<(usize, bool), Errno> {
    let mut control = Aligned([0_u8; cmsg::space(16)]);
    let mut slices = [IoSliceMut::new(buffer)];
    let mut header = empty_header();
    header.msg_iov = slices.as_mut_ptr().cast();
    header.msg_iovlen = 1;
    if is_stamped {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = cmsg::space(16) as _;
    }
    let mut flags = libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC;
    if !manner.waits {
        flags |= libc::MSG_DONTWAIT;
    }
    if !manner.is_stream {
        flags |= libc::MSG_TRUNC;
    }
    // SAFETY: `socket` is open while borrowed. `msg_iov` points to one slice, and `msg_control` to as many bytes as is said,
    // or is null; both are borrowed mutably until after the call, and every byte pattern is a valid `u8`.
    let outcome = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(outcome).map_err(|_| last_error())?;
    let written: usize = header.msg_controllen as _;
    let mut arrival = Arrival::empty(length);
    // There should be none; one that is there all the same is ours to close.
    arrival.take(
        control
            .0
            .get(..written.min(cmsg::space(16)))
            .unwrap_or_default(),
    )?;
    Ok((length, is_stamped && written > 0))
}

impl Arrival {
    /// What a receive that has just succeeded has brought.
    #[inline]
    pub(super) fn of(header: &libc::msghdr, length: usize, control: &[u8]) -> Result<Self, Errno> {
        // The type differs between C libraries.
        let control_length: usize = header.msg_controllen as _;
        let mut arrival = Self {
            is_truncated: header.msg_flags & libc::MSG_TRUNC != 0,
            is_control_truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
            has_control: control_length != 0,
            ..Self::empty(length)
        };
        arrival.take(control.get(..control_length).ok_or(Errno::PROTO)?)?;
        Ok(arrival)
    }

    fn empty(length: usize) -> Self {
        Self {
            length,
            is_truncated: false,
            is_control_truncated: false,
            has_control: false,
            fds: Vec::new(),
            credentials: None,
            process: None,
        }
    }

    /// Owns every descriptor in a control buffer that `recvmsg` has just filled, and reads the rest.
    #[inline]
    fn take(&mut self, controls: &[u8]) -> Result<(), Errno> {
        for control in cmsg::parse(controls) {
            let Control { level, kind, data } = control.map_err(|Malformed| Errno::PROTO)?;
            match (level, kind) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for number in cmsg::numbers(data).filter(|number| *number >= 0) {
                        // SAFETY: the kernel wrote this number into an SCM_RIGHTS message of the call that has just
                        // succeeded: it installed the descriptor for us, and nothing else in this process owns it.
                        // The buffer is read once.
                        self.fds.push(unsafe { OwnedFd::from_raw_fd(number) });
                    }
                }
                (libc::SOL_SOCKET, SCM_PIDFD) => {
                    for number in cmsg::numbers(data) {
                        self.process = Some(if number >= 0 {
                            // SAFETY: as above; a pidfd that the kernel installed for this message alone.
                            Ok(unsafe { OwnedFd::from_raw_fd(number) })
                        } else {
                            Err(Errno::from_raw_os_error(number.saturating_neg()))
                        });
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                    self.credentials = Credentials::from_bytes(data);
                }
                // Time stamps and labels hold no descriptors.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Sends one message, to `name` (a socket address as bytes) on a datagram socket that is not connected.
///
/// The caller has checked that there are not more than [`FDS_MAX`] descriptors and [`SLICES_MAX`] slices.
#[inline]
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    name: Option<&[u8]>,
    waits: bool,
) -> Result<usize, Errno> {
    if let ([slice], [], None) = (slices, fds, name) {
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::DONTWAIT, !waits);
        return rustix::net::send(socket, slice, flags);
    }
    let mut control;
    let mut header = empty_header();
    header.msg_iov = slices.as_ptr().cast_mut().cast();
    header.msg_iovlen = slices.len() as _;
    if !fds.is_empty() {
        control = Aligned::new();
        header.msg_controllen = write_rights(&mut control, fds)? as _;
        header.msg_control = control.0.as_mut_ptr().cast();
    }
    if let Some(name) = name {
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len().try_into().map_err(|_| Errno::INVAL)?;
    }
    let mut flags = libc::MSG_NOSIGNAL;
    if !waits {
        flags |= libc::MSG_DONTWAIT;
    }
    // SAFETY: `socket` and the descriptors in `control` are open while borrowed. `msg_iov` points to `msg_iovlen` slices
    // (an `IoSlice` is laid out as an `iovec`), `msg_control` and `msg_name` to as many bytes as is said beside them.
    // All are borrowed until after the call, which only reads them.
    let outcome = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    usize::try_from(outcome).map_err(|_| last_error())
}

/// Writes a control message with the descriptors; returns its length.
pub(super) fn write_rights(
    control: &mut Aligned<FDS_BYTES>,
    fds: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let numbers = fds.iter().map(AsRawFd::as_raw_fd);
    cmsg::write_numbers(&mut control.0, libc::SOL_SOCKET, libc::SCM_RIGHTS, numbers)
        .ok_or(Errno::INVAL)
}

fn empty_header() -> libc::msghdr {
    // SAFETY: `msghdr` consists of pointers and integers, for which all-zero (null, none) is a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
