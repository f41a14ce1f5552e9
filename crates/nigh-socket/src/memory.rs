//! Memory files: created, filled, sealed so that nobody can change them, sent, verified, mapped.
//!
//! Traps: a file that is not sealed can be cut short by its sender while we read the mapping, which kills us (SIGBUS); and
//! being open for reading only protects nothing. For a single message under some MiB a copy through the socket is faster.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use crate::fdcheck::{FdError, require_sealed};
use crate::sys::map::Pages;

/// A memory file that is being filled, close-on-exec, which no other process has yet.
#[derive(Debug)]
pub struct MemoryFile {
    file: File,
}

impl MemoryFile {
    /// An empty one. The name is for people who look at `/proc/PID/fd`; it need not be unique.
    ///
    /// # Errors
    /// `InvalidInput` for a name over 249 bytes or with a NUL; otherwise what `memfd_create(2)` reports.
    pub fn create(name: &str) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3 does not know that nobody will execute it.
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
            created => created?,
        };
        Ok(Self { file: fd.into() })
    }

    /// Seals it: from now on nobody can change its contents or its length, nor unseal it.
    ///
    /// # Errors
    /// What `fcntl(2)` reports: `ResourceBusy` when somebody has mapped it for writing.
    pub fn seal(mut self) -> io::Result<SealedFile> {
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&self.file, all)?;
        // The offset travels with the descriptor.
        self.file.seek(SeekFrom::Start(0))?;
        Ok(SealedFile { file: self.file })
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for MemoryFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A memory file that nobody can change any more: its contents and length are what they are for ever.
#[derive(Debug)]
pub struct SealedFile {
    file: File,
}

impl SealedFile {
    /// Verifies a descriptor that arrived.
    ///
    /// # Errors
    /// [`FdError::NotSealed`] when its sender can still change it.
    pub fn verify(fd: OwnedFd) -> Result<Self, FdError> {
        require_sealed(&fd)?;
        Ok(Self { file: fd.into() })
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// What `fstat(2)` reports.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buffer` from that offset on, without moving the offset that all who hold the file share.
    ///
    /// # Errors
    /// `UnexpectedEof` when there is not that much.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Maps all of it. Sealed as it is, reading the mapping can neither fail nor change under the reader.
    ///
    /// # Errors
    /// `OutOfMemory` when the address space has no room for it; otherwise what `mmap(2)` reports.
    pub fn map(&self) -> io::Result<Mapping> {
        let length = usize::try_from(self.length()?)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Mapping {
            pages: Pages::of_sealed(self, length)?,
        })
    }
}

impl AsFd for SealedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<SealedFile> for OwnedFd {
    fn from(sealed: SealedFile) -> Self {
        sealed.file.into()
    }
}

/// The bytes of a sealed memory file. They stay when the file is closed.
#[derive(Debug)]
pub struct Mapping {
    pages: Pages,
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.pages.bytes()
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
