//! What a Unix socket's kernel record says of its peer: `getsockopt` with checked lengths, as owned values.
//!
//! Trap: rustix has `SO_PEERCRED` too, with a pid that must not be 0; other pid namespaces make it 0.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, socklen_t};
use rustix::io::Errno;

/// `struct ucred` as the kernel filled it: nothing is believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Credentials {
    /// From the bytes of a `struct ucred`; `None` for any other number of bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[p0, p1, p2, p3, u0, u1, u2, u3, g0, g1, g2, g3] = bytes else {
            return None;
        };
        Some(Self {
            pid: i32::from_ne_bytes([p0, p1, p2, p3]),
            uid: u32::from_ne_bytes([u0, u1, u2, u3]),
            gid: u32::from_ne_bytes([g0, g1, g2, g3]),
        })
    }
}

/// `NGROUPS_MAX` groups of four bytes: what `SO_PEERGROUPS` can need at most.
const GROUPS_BYTES_MAX: usize = 65536 * 4;

/// Labels are some tens of bytes; no security module comes near this.
const LABEL_BYTES_MAX: usize = 64 * 1024;

pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    let mut bytes = [0; 12];
    match get(socket, libc::SO_PEERCRED, &mut bytes) {
        Ok(12) => Credentials::from_bytes(&bytes).ok_or(Errno::PROTO),
        Ok(_) => Err(Errno::PROTO),
        Err(refusal) => Err(refusal.errno),
    }
}

/// A descriptor of the peer's process, close-on-exec; it leads to that process and to no later one with its pid.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut bytes = [0xff; 4];
    match get(socket, libc::SO_PEERPIDFD, &mut bytes) {
        Ok(4) => match RawFd::from_ne_bytes(bytes) {
            // SAFETY: the call above succeeded and the kernel wrote a number that is not negative: a descriptor that
            // it just installed for us and that nothing else in this process owns.
            fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(Errno::PROTO),
        },
        Ok(_) => Err(Errno::PROTO),
        Err(refusal) => Err(refusal.errno),
    }
}

/// The peer's supplementary groups, in the kernel's order.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut few = [0; 64 * 4];
    get_growing(
        socket,
        libc::SO_PEERGROUPS,
        &mut few,
        GROUPS_BYTES_MAX,
        |bytes| {
            let (ids, _) = bytes.as_chunks::<4>();
            ids.iter().map(|id| u32::from_ne_bytes(*id)).collect()
        },
    )
}

/// The peer's security label, as its security module wrote it.
pub(crate) fn peer_label(socket: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut short = [0; 256];
    get_growing(
        socket,
        libc::SO_PEERSEC,
        &mut short,
        LABEL_BYTES_MAX,
        <[u8]>::to_vec,
    )
}

/// Whether it is a Unix socket at all.
pub(crate) fn is_unix(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut bytes = [0; 4];
    match get(socket, libc::SO_DOMAIN, &mut bytes) {
        Ok(4) => Ok(c_int::from_ne_bytes(bytes) == libc::AF_UNIX),
        Ok(_) => Err(Errno::PROTO),
        Err(refusal) => Err(refusal.errno),
    }
}

/// The size of a `c_int`.
const C_INT_BYTES: socklen_t = 4;

/// Turns an option of the socket layer on or off.
pub(crate) fn set_flag(socket: BorrowedFd<'_>, option: Flag, on: bool) -> Result<(), Errno> {
    let value = c_int::from(on);
    // SAFETY: `socket` is open while borrowed; the kernel reads the four bytes of `value`, which outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option as c_int,
            (&raw const value).cast(),
            C_INT_BYTES,
        )
    };
    if outcome == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Whether an option of the socket layer is on.
pub(crate) fn flag(socket: BorrowedFd<'_>, option: Flag) -> Result<bool, Errno> {
    let mut bytes = [0; 4];
    match get(socket, option as c_int, &mut bytes) {
        Ok(4) => Ok(c_int::from_ne_bytes(bytes) != 0),
        Ok(_) => Err(Errno::PROTO),
        Err(refusal) => Err(refusal.errno),
    }
}

/// Whether each message shall say who wrote it; by a pidfd too where the kernel can (Linux 6.5).
pub(crate) fn pass_credentials(socket: BorrowedFd<'_>, pass: bool) -> Result<(), Errno> {
    set_flag(socket, Flag::PassCredentials, pass)?;
    match set_flag(socket, Flag::PassProcess, pass) {
        Err(Errno::NOPROTOOPT) => Ok(()),
        done => done,
    }
}

/// Whether descriptors may be sent to this socket; answers whether the kernel can be told (Linux 6.16).
pub(crate) fn pass_rights(socket: BorrowedFd<'_>, pass: bool) -> Result<bool, Errno> {
    is_known(set_flag(socket, Flag::PassRights, pass))
}

/// Whether the kernel has the option that was to be set.
fn is_known(set: Result<(), Errno>) -> Result<bool, Errno> {
    match set {
        Ok(()) => Ok(true),
        Err(Errno::NOPROTOOPT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether descriptors may be sent to this socket: always where the kernel has no such option.
pub(crate) fn passes_rights(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut bytes = [0; 4];
    match get(socket, SO_PASSRIGHTS, &mut bytes) {
        Ok(_) => Ok(c_int::from_ne_bytes(bytes) != 0),
        Err(refusal) if refusal.errno == Errno::NOPROTOOPT => Ok(true),
        Err(refusal) => Err(refusal.errno),
    }
}

/// Options that rustix does not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Flag {
    /// A time stamp comes with each packet: what tells an empty one from the end.
    Timestamp = libc::SO_TIMESTAMP,
    /// Credentials of the sender come with each message.
    PassCredentials = libc::SO_PASSCRED,
    /// A pidfd of the sender comes with each message. Linux 6.5.
    PassProcess = libc::SO_PASSPIDFD,
    /// Descriptors may be sent to this socket. Linux 6.16.
    PassRights = SO_PASSRIGHTS,
}

/// Of asm-generic/socket.h, which holds wherever this number is not taken: not on SPARC and PA-RISC.
const SO_PASSRIGHTS: c_int = 83;

/// An error of `getsockopt`, with the length that the kernel left behind: with `ERANGE`, the length it needs.
struct Refusal {
    errno: Errno,
    length: usize,
}

/// Tries the buffer at hand, then once more with the length the kernel asked for.
fn get_growing<T>(
    socket: BorrowedFd<'_>,
    option: c_int,
    at_hand: &mut [u8],
    limit: usize,
    parse: impl FnOnce(&[u8]) -> T,
) -> Result<T, Errno> {
    let needed = match get(socket, option, at_hand) {
        Ok(length) => return Ok(parse(at_hand.get(..length).ok_or(Errno::PROTO)?)),
        Err(Refusal {
            errno: Errno::RANGE,
            length,
        }) if length <= limit => length,
        Err(refusal) => return Err(refusal.errno),
    };
    // The record is of connect time and cannot grow in between.
    let mut grown = vec![0; needed];
    match get(socket, option, &mut grown) {
        Ok(length) => Ok(parse(grown.get(..length).ok_or(Errno::PROTO)?)),
        Err(refusal) => Err(refusal.errno),
    }
}

fn get(socket: BorrowedFd<'_>, option: c_int, into: &mut [u8]) -> Result<usize, Refusal> {
    let mut length = socklen_t::try_from(into.len()).unwrap_or(socklen_t::MAX);
    // SAFETY: `socket` is open while borrowed; the kernel writes at most `length` bytes, which is not more than `into`
    // holds, and `length` itself; every byte pattern is a valid `u8`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            into.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if outcome == 0 {
        return Ok(length);
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    Err(Refusal { errno, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_the_kernel_lacks_is_told_from_a_failure() {
        assert_eq!(is_known(Ok(())), Ok(true));
        assert_eq!(is_known(Err(Errno::NOPROTOOPT)), Ok(false));
        assert_eq!(is_known(Err(Errno::PERM)), Err(Errno::PERM));
    }
}
