//! Payloads in sealed memory: sent as a descriptor instead of bytes, verified, and read where they lie.
//!
//! Traps: making and filling a memory file costs page faults that bytes through the socket do not; docs/performance.md has
//! the crossover. What is not sealed can be cut short under its reader, which kills it: so it is never mapped.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use nigh_socket::fdcheck::FdError;
use nigh_socket::{Mapping, MemoryFile, SealedFile};
use tonic::Status;

use super::error::{AttachError, TakeError};
use super::{Descriptors, FdIndex};

/// Why a payload in sealed memory was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// There is no descriptor under that index.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The peer sent another kind of file, or memory that it can still change.
    #[error("a payload in sealed memory: {0}")]
    Unfit(#[source] FdError),
    /// The peer sent more than this side takes.
    #[error("a payload of {length} bytes in sealed memory, the limit is {max}")]
    TooLarge {
        /// Its length in bytes.
        length: u64,
        /// The receiver's limit.
        max: u64,
    },
    /// This system could not map it, or tell its length.
    #[error("a payload in sealed memory cannot be mapped")]
    Map(#[source] io::Error),
}

impl From<SealedError> for Status {
    fn from(error: SealedError) -> Self {
        let text = error.to_string();
        match error {
            SealedError::Take(error) => error.into(),
            SealedError::Unfit(_) => Self::invalid_argument(text),
            SealedError::TooLarge { .. } | SealedError::Map(_) => Self::resource_exhausted(text),
        }
    }
}

/// Copies `bytes` into sealed memory, to be attached once or to many calls. To fill it in place, or to send the same for
/// every call, make a [`MemoryFile`], [`seal`](MemoryFile::seal) it, and attach that.
///
/// # Errors
/// What `memfd_create(2)`, `write(2)` and `fcntl(2)` report: no descriptor, or no memory, is left.
pub fn sealed(bytes: &[u8]) -> io::Result<SealedFile> {
    let mut file = MemoryFile::create("nigh payload")?;
    file.write_all(bytes)?;
    file.seal()
}

fn mapped(fd: OwnedFd, bytes_max: u64) -> Result<Mapping, SealedError> {
    let file = SealedFile::verify(fd).map_err(SealedError::Unfit)?;
    let length = file.length().map_err(SealedError::Map)?;
    if length > bytes_max {
        return Err(SealedError::TooLarge {
            length,
            max: bytes_max,
        });
    }
    file.map().map_err(SealedError::Map)
}

impl Descriptors {
    /// Attaches a copy of `bytes` in sealed memory: for payloads so large that a message would pay more, or that exceed the
    /// limit of one.
    ///
    /// ```no_run
    /// # use nigh::DescriptorsExt as _;
    /// # fn example(picture: &[u8]) -> Result<tonic::Response<u32>, tonic::Status> {
    /// let mut reply = tonic::Response::new(0);
    /// *reply.get_mut() = reply.descriptors().attach_sealed(picture)?.into();
    /// # Ok(reply) }
    /// ```
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach_sealed(&self, bytes: &[u8]) -> Result<FdIndex, AttachError> {
        let file = sealed(bytes).map_err(AttachError::Memory)?;
        self.call.attach(file.into())
    }

    /// Takes a payload of at most `bytes_max` bytes in sealed memory, and maps it: nobody can change it any more, and reading
    /// it cannot fail. The pages stay the sender's and this side's together until both have let go.
    ///
    /// # Errors
    /// See [`SealedError`]; what is unfit has been closed.
    pub fn take_sealed(
        &self,
        index: impl Into<FdIndex>,
        bytes_max: u64,
    ) -> Result<Mapping, SealedError> {
        mapped(self.take(index)?, bytes_max)
    }
}
