//! `PIDFD_GET_INFO`: what the kernel says now of the process behind a pidfd. Linux 6.13, exit status from 6.15.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// The mask bits this library asks for and understands.
pub(crate) const CREDENTIALS: u64 = libc::PIDFD_INFO_CREDS as u64;
pub(crate) const CGROUP_ID: u64 = libc::PIDFD_INFO_CGROUPID as u64;
pub(crate) const EXIT: u64 = libc::PIDFD_INFO_EXIT as u64;

/// Fills the structure's first version (64 bytes); its `mask` says which fields the kernel filled.
pub(crate) fn info(pidfd: BorrowedFd<'_>) -> Result<libc::pidfd_info, Errno> {
    let zeroed = MaybeUninit::<libc::pidfd_info>::zeroed();
    // SAFETY: the structure consists of integers, for which all-zero is a value.
    let mut info = unsafe { zeroed.assume_init() };
    info.mask = libc::PIDFD_INFO_PID as u64 | CREDENTIALS | CGROUP_ID | EXIT;
    // SAFETY: `pidfd` is open while borrowed; the request number encodes the size of `pidfd_info`, and the kernel writes
    // no more than that into `info`, which outlives the call.
    let outcome = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if outcome == 0 {
        return Ok(info);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
