//! Locks that belong to an open file: whoever holds one is alive, and only who may write the file can hold it for writing.
//!
//! Trap: `flock` needs no permission to write, so anybody who may read a file could pretend to be its living owner; and
//! the older `F_SETLK` is lost when the process closes any other descriptor of the same file.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Takes the lock for writing on the whole file; false when another has it.
pub(crate) fn lock(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    match set(file, libc::F_WRLCK) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether another open file of it has the lock for writing. Needs a descriptor for reading.
pub(crate) fn is_locked(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    match set(file, libc::F_RDLCK) {
        // It goes when the descriptor is closed, and hinders nobody who only looks.
        Ok(()) => set(file, libc::F_UNLCK).map(|()| false),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(true),
        Err(error) => Err(error),
    }
}

fn set(file: BorrowedFd<'_>, kind: libc::c_int) -> Result<(), Errno> {
    let kind = libc::c_short::try_from(kind).map_err(|_| Errno::INVAL)?;
    // SAFETY: all zeros is a valid `struct flock`: from the start of the file, to its end, pid 0 as `F_OFD_SETLK` demands.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = kind;
    // SAFETY: `whole` is a `struct flock` that the kernel reads during the call only; `file` is open.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
