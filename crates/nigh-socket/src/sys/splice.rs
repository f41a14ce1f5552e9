//! `vmsplice` of memory that stays what it is: the only kind that can be lent to a pipe soundly.
//!
//! Trap: on the reading end of a pipe the same call *fills* the memory. So the end is asked for what it was opened for.

use std::os::fd::BorrowedFd;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::pipe::{IoSliceRaw, SpliceFlags};

use crate::moving::Unchanging;

/// Lends the bytes to the pipe: it refers to their pages until they are read, whoever owns them by then.
pub(crate) fn lend(pipe: BorrowedFd<'_>, bytes: Unchanging<'_>) -> Result<usize, Errno> {
    let access = fcntl_getfl(pipe)? & OFlags::ACCMODE;
    if access == OFlags::RDONLY {
        return Err(Errno::BADF);
    }
    let slices = [IoSliceRaw::from_slice(bytes.bytes())];
    // SAFETY: the descriptor can be written to (checked above), so that the kernel only reads the memory. The pipe may
    // refer to its pages after the borrow ends: they are of a `static`, or of a sealed file (which is all that
    // `Unchanging` is made of), so nobody writes to them ever again, and the kernel keeps them while it needs them.
    unsafe { rustix::pipe::vmsplice(pipe, &slices, SpliceFlags::empty()) }
}
