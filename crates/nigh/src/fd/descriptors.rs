//! What users hold: indices for messages, and the handle that attaches and takes.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use nigh_socket::Peer;
use tokio::time::Instant;

use super::call::Call;
use super::error::{AttachError, Incapable, TakeError, UnsentError};
use super::inode::InodeUrl;
use crate::peer::Arrival;

/// A descriptor's number in its call and direction: what a message says instead of the descriptor.
///
/// Put it into a `uint32` field. It means something in this call only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdIndex(pub(super) u32);

impl From<u32> for FdIndex {
    fn from(index: u32) -> Self {
        Self(index)
    }
}

impl From<FdIndex> for u32 {
    fn from(index: FdIndex) -> Self {
        index.0
    }
}

impl fmt::Display for FdIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One call's descriptors, both ways: for streams, and wherever the request or response itself is out of reach.
///
/// A client makes one and inserts it into its request, or asks the request for it
/// ([`DescriptorsExt::descriptors`]); a handler asks its request. Clones are the same call's. Attach before the message
/// that mentions the index is sent; then whoever reads the message finds the descriptor there.
///
/// What nobody takes is closed when the call ends: on the server with the last byte of the answer, on the client when
/// the call failed or the response and all handles are gone.
///
/// A descriptor can be anything: see [`fdcheck`](crate::fdcheck) before it is read, mapped or trusted to be a certain
/// file. What is looked at with [`with`](Self::with) and not taken is closed with its call:
///
/// ```
/// use nigh::{DescriptorsExt as _, FileKind, fdcheck};
///
/// fn settings(request: &mut tonic::Request<u32>) -> Result<std::fs::File, tonic::Status> {
///     let (index, fds) = (*request.get_ref(), request.descriptors());
///     let checked = fds.with(index, |fd| {
///         fdcheck::require_kind(fd, FileKind::Regular)?;
///         // Whoever sent it can change it no more: it is read as it was checked.
///         fdcheck::require_sealed(fd)
///     });
///     if let Some(Err(unfit)) = checked {
///         return Err(tonic::Status::invalid_argument(unfit.to_string()));
///     }
///     Ok(fds.take(index)?.into())
/// }
/// # let mut request = tonic::Request::new(0);
/// # assert_eq!(settings(&mut request).unwrap_err().code(), tonic::Code::InvalidArgument);
/// ```
#[derive(Debug, Clone)]
pub struct Descriptors {
    pub(super) call: Arc<Call>,
}

impl Default for Descriptors {
    fn default() -> Self {
        Self::new()
    }
}

impl Descriptors {
    /// Of a call that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self { call: Call::new() }
    }

    /// Duplicates `fd` at once and sends the duplicate ahead of the next message of this call.
    ///
    /// # Errors
    /// See [`AttachError`]; nothing has been sent then.
    pub fn attach(&self, fd: impl AsFd) -> Result<FdIndex, AttachError> {
        self.call.attach(duplicate(fd)?)
    }

    /// Waits until an attached descriptor has left this process.
    ///
    /// # Errors
    /// See [`UnsentError`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn sent(&self, index: impl Into<FdIndex>) -> Result<(), UnsentError> {
        self.call.sent(index.into()).await
    }

    /// Takes what the other side attached. Each descriptor is given once; it is close-on-exec.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub fn take(&self, index: impl Into<FdIndex>) -> Result<OwnedFd, TakeError> {
        self.call.take(index.into())
    }

    /// As [`take`](Self::take), for an index that is known before its message: waits for the descriptor.
    ///
    /// # Errors
    /// See [`TakeError`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn wait(&self, index: impl Into<FdIndex>) -> Result<OwnedFd, TakeError> {
        self.call.wait(index.into()).await
    }

    /// The indices of what came and was not taken yet, ascending.
    #[must_use]
    pub fn list(&self) -> Vec<FdIndex> {
        self.call.indices()
    }

    /// Looks at a descriptor without taking it; `None` if there is none under `index`.
    pub fn with<T>(
        &self,
        index: impl Into<FdIndex>,
        look: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Option<T> {
        self.call.with_fd(index.into(), |fd| look(fd.as_fd()))
    }

    /// grpcfd's way: duplicates `fd` and sends it with the next bytes of the connection, to be found by the URL.
    ///
    /// # Errors
    /// See [`AttachError`]. Whether the connection has an inode table is known when the call begins: without one the
    /// call fails before anything of it is sent.
    pub fn attach_inode(&self, fd: impl AsFd) -> Result<InodeUrl, AttachError> {
        let fd = duplicate(fd)?;
        let url = InodeUrl::of(&fd).map_err(AttachError::Duplicate)?;
        self.call.attach_loose(fd)?;
        Ok(url)
    }

    /// grpcfd's way, by file name: opens `path` without reading or writing rights (`O_PATH`), so that sockets and
    /// files this process may not read can be sent too. The receiver opens it again, see [`reopen`].
    ///
    /// # Errors
    /// See [`AttachError`]: a missing file is missing here, not at the receiver.
    pub fn attach_path(&self, path: impl AsRef<Path>) -> Result<InodeUrl, AttachError> {
        let path = path.as_ref();
        let failed = |source| AttachError::Open {
            path: path.to_owned(),
            source,
        };
        let file = nigh_socket::open_path(path).map_err(failed)?;
        let url = InodeUrl::of(&file).map_err(failed)?;
        self.call.attach_loose(file)?;
        Ok(url)
    }

    /// grpcfd's way: a duplicate of the connection's descriptor of that file, as soon as one has come, again and again.
    ///
    /// # Errors
    /// See [`TakeError`]: after `within` it is [`TimedOut`](TakeError::TimedOut), or
    /// [`Lost`](TakeError::Lost) if descriptors were lost on this connection.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn claim(&self, url: InodeUrl, within: Duration) -> Result<OwnedFd, TakeError> {
        let link = self.call.table().ok_or(TakeError::NoTable)?;
        let table = link.inodes().ok_or(TakeError::NoTable)?;
        table.claim(url, Instant::now() + within).await
    }

    /// Nothing of this call can be sent.
    pub(crate) fn refuse(&self, why: Incapable) -> Result<(), tonic::Status> {
        if self.call.has_attached() || self.call.has_loose() {
            return Err(why.status());
        }
        self.call.close(why);
        Ok(())
    }

    /// The handle in `extensions`, made where the call begins there.
    fn of(extensions: &mut Extensions) -> &mut Self {
        // A peer is set on what was received; without a handle such a call carries nothing.
        let received = extensions.get::<Peer>().is_some();
        let arrival = extensions.get::<Arrival>();
        let why = arrival.map_or(Incapable::NotNigh, |arrival| arrival.no_descriptors);
        extensions.get_or_insert_with(|| {
            if received {
                Self {
                    call: Call::incapable(why),
                }
            } else {
                Self::new()
            }
        })
    }
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd, AttachError> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(AttachError::Duplicate)
}

/// Opens the file of a descriptor again, with rights of this process's own: for one that came as `O_PATH`.
///
/// # Errors
/// What `open` reports for `/proc/self/fd/N`.
pub fn reopen(fd: impl AsFd, options: &OpenOptions) -> io::Result<File> {
    let fd = fd.as_fd();
    let mut options = options.clone();
    options
        .custom_flags(0)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Descriptors of a request or a response. Works with every generated tonic client and service.
///
/// ```no_run
/// # use nigh::DescriptorsExt as _;
/// # fn example(file: std::fs::File) -> Result<(), tonic::Status> {
/// let mut reply = tonic::Response::new(0_u32);
/// *reply.get_mut() = reply.attach(file)?.into();
/// # Ok(()) }
/// ```
pub trait DescriptorsExt {
    /// The call's handle, see [`Descriptors`]. A response that a handler has just made has one of its own, whose
    /// descriptors leave with it.
    fn descriptors(&mut self) -> Descriptors;

    /// See [`Descriptors::attach`].
    ///
    /// # Errors
    /// See [`AttachError`].
    fn attach(&mut self, fd: impl AsFd) -> Result<FdIndex, AttachError> {
        self.descriptors().attach(fd)
    }

    /// See [`Descriptors::take`].
    ///
    /// # Errors
    /// See [`TakeError`].
    fn take_fd(&self, index: impl Into<FdIndex>) -> Result<OwnedFd, TakeError>;

    /// See [`Descriptors::list`].
    fn fds(&self) -> Vec<FdIndex>;
}

fn take(extensions: &Extensions, index: FdIndex) -> Result<OwnedFd, TakeError> {
    match extensions.get::<Descriptors>() {
        Some(descriptors) => descriptors.take(index),
        None => Err(TakeError::Unknown(index)),
    }
}

fn list(extensions: &Extensions) -> Vec<FdIndex> {
    extensions
        .get::<Descriptors>()
        .map(Descriptors::list)
        .unwrap_or_default()
}

macro_rules! extend {
    ($type:ty) => {
        impl<T> DescriptorsExt for $type {
            fn descriptors(&mut self) -> Descriptors {
                Descriptors::of(self.extensions_mut()).clone()
            }

            fn take_fd(&self, index: impl Into<FdIndex>) -> Result<OwnedFd, TakeError> {
                take(self.extensions(), index.into())
            }

            fn fds(&self) -> Vec<FdIndex> {
                list(self.extensions())
            }
        }
    };
}

extend!(tonic::Request<T>);
extend!(tonic::Response<T>);
extend!(http::Request<T>);
extend!(http::Response<T>);
