//! Read-only mappings of sealed memory files, the only ones that are sound as a slice of bytes.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::slice;

use rustix::io::Errno;

use crate::memory::SealedFile;

/// Mapped pages, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages are only read, never change (see `of_sealed`), and belong to no thread.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps the first `length` bytes, which the file must have.
    pub(crate) fn of_sealed(file: &SealedFile, length: usize) -> Result<Self, Errno> {
        // Nothing cannot be mapped.
        if length == 0 {
            let start = NonNull::dangling();
            return Ok(Self { start, length });
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use; `file` is open.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, length })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is dangling and `length` 0, or they are a mapping that lives as long as `self`. Its file is
        // sealed (every `SealedFile` is): it has `length` bytes for ever, so no access faults, and nobody can write to
        // it, nor has it mapped for writing, so the bytes do not change.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: our own mapping of this very length, to which no borrow is left.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}
