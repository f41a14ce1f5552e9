//! The part of the diagnostic service that deals with open files: describing them, giving them back, opening some.
//!
//! Trap: a directory's descriptor leads out of it (`..`), and a pipe or device does things when it is opened or read. So
//! [`OpenRoot`] gives regular files only.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nigh::{Descriptors, FdIndex, FileKind};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tonic::Status;

use super::pb::FdInfo;
use crate::fdinfo;

/// Most indices in one message: more descriptors than one call brings.
const INDICES_MAX: usize = 1024;

/// The directory beneath which `OpenFile` opens.
#[derive(Debug, Clone)]
pub struct OpenRoot {
    directory: Arc<OwnedFd>,
    writable: bool,
}

/// The directory for `OpenFile` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("open root {}: {source}", path.display())]
pub struct OpenRootError {
    path: PathBuf,
    source: io::Error,
}

impl OpenRoot {
    /// Files beneath `path`, which must be a directory; for writing, too, if `writable`.
    ///
    /// # Errors
    /// It is no directory, or cannot be opened.
    pub fn new(path: &Path, writable: bool) -> Result<Self, OpenRootError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self {
                directory: Arc::new(directory),
                writable,
            }),
            Err(errno) => Err(OpenRootError {
                path: path.to_owned(),
                source: errno.into(),
            }),
        }
    }

    fn open(&self, name: &str, write: bool) -> Result<OwnedFd, Status> {
        if write && !self.writable {
            return Err(Status::permission_denied(
                "files are opened for reading only: the server was started without --open-write",
            ));
        }
        let opened = nigh_socket::open_beneath(&self.directory, name, write);
        let file = opened.map_err(|error| refusal(name, &error))?;
        let kind = nigh::fdcheck::kind(&file)?;
        if kind != FileKind::Regular {
            let text = format!("{name:?} is {kind}, and only regular files are opened");
            return Err(Status::failed_precondition(text));
        }
        Ok(file)
    }
}

fn refusal(name: &str, error: &io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(format!("{name:?}: {error}")),
        io::ErrorKind::CrossesDevices => {
            Status::permission_denied(format!("{name:?} leads out of the server's open root"))
        }
        io::ErrorKind::PermissionDenied => Status::permission_denied(format!("{name:?}: {error}")),
        // Links in a circle, or one of those in /proc that lead anywhere.
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            Status::permission_denied(format!("{name:?}: {error}"))
        }
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => Status::invalid_argument(format!("{name:?}: {error}")),
        _ => Status::failed_precondition(format!("{name:?}: {error}")),
    }
}

/// Opens a file for the caller, and attaches it.
pub(super) async fn open(
    root: Option<&OpenRoot>,
    fds: &Descriptors,
    name: String,
    write: bool,
) -> Result<(FdIndex, FdInfo), Status> {
    let Some(root) = root.cloned() else {
        return Err(Status::failed_precondition(
            "no file is opened here: the server was started without --open-root",
        ));
    };
    let (file, facts) = off_the_reactor(move || {
        let file = root.open(&name, write)?;
        let facts = fdinfo::facts(&file)?;
        Ok((file, facts))
    })
    .await?;
    let index = fds.attach(file)?;
    Ok((index, facts.to_proto(index.into())))
}

/// What came under these indices, or all that came, each with its facts.
pub(super) async fn take(
    fds: &Descriptors,
    indices: Vec<u32>,
) -> Result<Vec<(FdInfo, OwnedFd)>, Status> {
    if indices.len() > INDICES_MAX {
        let text = format!("fds: at most {INDICES_MAX} indices, got {}", indices.len());
        return Err(Status::invalid_argument(text));
    }
    let indices = match indices.is_empty() {
        true => fds.list(),
        false => indices.into_iter().map(FdIndex::from).collect(),
    };
    let taken = indices
        .into_iter()
        .map(|index| Ok((index, fds.take(index)?)));
    let taken = taken.collect::<Result<Vec<_>, Status>>()?;
    off_the_reactor(move || {
        let described = taken.into_iter().map(|(index, fd)| {
            let facts = fdinfo::facts(&fd)?;
            Ok((facts.to_proto(index.into()), fd))
        });
        described.collect()
    })
    .await
}

/// Describes what came, and closes it.
pub(super) async fn stat(fds: &Descriptors, indices: Vec<u32>) -> Result<Vec<FdInfo>, Status> {
    let taken = take(fds, indices).await?;
    // Closing may wait, too.
    off_the_reactor(|| Ok(taken.into_iter().map(|(info, _)| info).collect())).await
}

/// Attaches what came for the way back.
pub(super) fn give_back(
    fds: &Descriptors,
    taken: &[(FdInfo, OwnedFd)],
) -> Result<Vec<u32>, Status> {
    let attached = taken
        .iter()
        .map(|(_, fd)| Ok(fds.attach(fd.as_fd())?.into()));
    attached.collect()
}

async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Status::internal("the descriptors could not be looked at"))?
}
