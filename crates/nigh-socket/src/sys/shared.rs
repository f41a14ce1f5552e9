//! Memory that another process can write at any time: mapped, and touched only through atomic words and copies.
//!
//! No reference to its bytes is ever made; they are copied, in or out, whatever the other side does meanwhile. Offsets are
//! checked against the mapping here, so that no caller can lead out of it.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

use rustix::io::Errno;
use tokio::io::ReadBuf;

use crate::lane::cursor::Capacity;
use crate::lane::protocol::{Memory, Name, Ring, Word};

/// Where the rings begin; before that are the words.
const RINGS_AT: usize = 4096;

/// The words of each ring are so far apart.
const WORDS_BYTES: usize = 1024;

/// What different sides write lies in different pairs of cache lines, because processors fetch two at once.
const fn word_at(ring: Ring, name: Name) -> usize {
    let of_ring = match ring {
        Ring::ToServer => 0,
        Ring::ToClient => WORDS_BYTES,
    };
    of_ring
        + match name {
            Name::Tail => 0,
            Name::Cpu => 4,
            Name::Ended => 8,
            Name::Head => 128,
            Name::ReaderWaits => 256,
            Name::WriterWaits => 384,
        }
}

/// Bytes of a lane's memory.
pub(crate) fn length(capacity: Capacity) -> usize {
    RINGS_AT + 2 * capacity.bytes() as usize
}

/// Bytes of each ring in memory of this length; `None`: no rings make that length.
pub(crate) fn ring_bytes(length: u64) -> Option<u32> {
    let rings = length.checked_sub(RINGS_AT as u64)?;
    u32::try_from(rings / 2).ok().filter(|_| rings % 2 == 0)
}

/// A mapping for reading and writing, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct SharedPages {
    start: NonNull<u8>,
    capacity: Capacity,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl Send for SharedPages {}
// SAFETY: as above, and through a shared reference it is only touched as another process may touch it at the same time:
// atomic words, and copies of bytes that mean nothing to this type.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Maps the memory of a lane with such rings. The file's length is sealed: its maker or `verify` has seen to it.
    pub(crate) fn map(file: &OwnedFd, capacity: Capacity) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use; `file` is open.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length(capacity),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, capacity })
    }

    /// The first byte of `length` bytes of a ring from `at` on; `None`: they would not lie in it.
    fn bytes(&self, ring: Ring, at: u32, length: usize) -> Option<NonNull<u8>> {
        let end = (at as usize).checked_add(length)?;
        if end > self.capacity.bytes() as usize {
            return None;
        }
        let of_ring = match ring {
            Ring::ToServer => RINGS_AT,
            Ring::ToClient => RINGS_AT + self.capacity.bytes() as usize,
        };
        // SAFETY: `of_ring + at + length` is at most the length of the mapping, as the check above says.
        Some(unsafe { self.start.add(of_ring + at as usize) })
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: our own mapping of this very length, to which no borrow is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), length(self.capacity)) };
    }
}

impl Memory for SharedPages {
    type Word = AtomicU32;

    fn word(&self, ring: Ring, name: Name) -> &AtomicU32 {
        // SAFETY: `word_at` is below the 4096 bytes that every mapping has before its rings.
        let word = unsafe { self.start.add(word_at(ring, name)) };
        // SAFETY: mapped, aligned to 4 because a mapping is to a page and `word_at` gives multiples of 4, and never
        // touched but as an atomic word; any value is one. It lives as long as `self`.
        unsafe { word.cast::<AtomicU32>().as_ref() }
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn put(&self, ring: Ring, at: u32, bytes: &[u8]) {
        let Some(to) = self.bytes(ring, at, bytes.len()) else {
            return;
        };
        // SAFETY: `to` has room for as many bytes, see `bytes`, and is no part of any Rust value, so it cannot overlap.
        // The peer may read or write there at the same time: it is another process, outside of this program's memory
        // model, and nothing here depends on what the bytes are.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    fn take(&self, ring: Ring, at: u32, length: u32, into: &mut ReadBuf<'_>) {
        let length = length as usize;
        let Some(from) = self.bytes(ring, at, length) else {
            return;
        };
        // SAFETY: what is initialised stays so: it is only overwritten with bytes.
        let unfilled = unsafe { into.unfilled_mut() };
        let Some(unfilled) = unfilled.get_mut(..length) else {
            return;
        };
        copy_out(from, unfilled);
        // SAFETY: `copy_out` has initialised so many bytes.
        unsafe { into.assume_init(length) };
        into.advance(length);
    }
}

fn copy_out(from: NonNull<u8>, to: &mut [MaybeUninit<u8>]) {
    let (place, length) = (to.as_mut_ptr().cast::<u8>(), to.len());
    // SAFETY: both have so many bytes, see `bytes` and the slice; they do not overlap, as `put` says. The peer may write
    // there at the same time: the copy is then a mixture of bytes, and any bytes are bytes.
    unsafe { ptr::copy_nonoverlapping(from.as_ptr(), place, length) };
    // What was copied is what is looked at: the compiler cannot read the shared memory again instead.
    compiler_fence(Ordering::SeqCst);
}

impl Word for AtomicU32 {
    fn load(&self, order: Ordering) -> u32 {
        Self::load(self, order)
    }

    fn store(&self, value: u32, order: Ordering) {
        Self::store(self, value, order);
    }
}
