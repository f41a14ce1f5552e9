//! Follows one file through everything that happens to files.
//!
//! A rename or a link swap is read at once; a write in place waits until it has been quiet for a moment, so
//! that half a file is not read. Anything that cannot be used leaves the last good flags in place.

use std::fs::Metadata;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ReadError;
use super::seat::Seat;
use super::watch::{Stir, Watch};
use crate::model::{self, Fault, FlagSet, Format, LoadError, Place, SOURCE_BYTES_MAX};

/// Quiet time after a write in place.
const QUIET: Duration = Duration::from_millis(50);

/// A file that is written without a pause is read all the same after this.
const QUIET_MAX: Duration = Duration::from_secs(1);

/// Looks for what inotify cannot see: network file systems, directories that were not there.
const POLL: Duration = Duration::from_secs(1);

/// Everything that tells two states of a file apart. A rollback to an older file differs as well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Print {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|found| Self::of(&found))
    }

    fn is_other_file(&self, other: Option<&Self>) -> bool {
        other.is_none_or(|other| (self.device, self.inode) != (other.device, other.inode))
    }
}

/// Follows one file.
#[derive(Debug)]
pub(super) struct Follower {
    seat: Seat,
    path: PathBuf,
    watch: Watch,
    /// The state that was read last; `None` for no file.
    read: Option<Print>,
    /// The text of that state, to see that a touched file is the same.
    text: String,
}

impl Follower {
    pub(super) fn new(seat: Seat, path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            seat,
            path,
            watch: Watch::new()?,
            read: None,
            text: String::new(),
        })
    }

    /// The first reading; the watch stands before it, so that nothing falls between.
    pub(super) async fn begin(&mut self) {
        self.watch.aim(&self.path);
        self.read_now().await;
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) {
        loop {
            self.wait().await;
            self.watch.aim(&self.path);
            self.read_now().await;
        }
    }

    /// Completes when the file should be read: it is another file, or was written and then left alone.
    async fn wait(&self) {
        // When a write in place began, and when it will have been quiet for long enough.
        let mut write: Option<(Instant, Instant)> = None;
        loop {
            let next = match write {
                None => Instant::now() + POLL,
                Some((began, quiet)) => quiet.min(began + QUIET_MAX),
            };
            let stir = tokio::select! {
                stir = self.watch.stirred() => match stir {
                    Ok(stir) => Some(stir),
                    Err(error) => {
                        tracing::warn!("{}: the kernel's notice is broken: {error}", self.seat.name);
                        tokio::time::sleep_until(next).await;
                        None
                    }
                },
                () = tokio::time::sleep_until(next) => None,
            };
            let now = Print::at(&self.path);
            if now == self.read {
                write = None;
                continue;
            }
            let replaced = match &now {
                None => true,
                Some(print) => print.is_other_file(self.read.as_ref()),
            };
            match stir {
                Some(Stir::Whole) if replaced => return,
                Some(_) => {
                    let began = write.map_or_else(Instant::now, |(began, _)| began);
                    write = Some((began, Instant::now() + QUIET));
                }
                None => return,
            }
        }
    }

    async fn read_now(&mut self) {
        let path = self.path.clone();
        let evaluator = Arc::clone(&self.seat.hub.evaluator);
        let last = std::mem::take(&mut self.text);
        let reading = tokio::task::spawn_blocking(move || {
            let (print, text) = read(&path);
            let text = match text {
                Ok(text) if text == last => return (print, text, None),
                Ok(text) => text,
                Err(error) => return (print, last, Some(Err(error))),
            };
            let format = Format::of_name(&path.to_string_lossy());
            let set = model::load(&text, format, &evaluator).map_err(ReadError::Load);
            (print, text, Some(set))
        });
        let (print, text, set) = match reading.await {
            Ok(reading) => reading,
            Err(_) => (None, String::new(), Some(Err(ReadError::BrokenOff))),
        };
        self.read = print;
        self.text = text;
        if let Some(set) = set {
            self.take(set);
        }
    }

    fn take(&mut self, set: Result<FlagSet, ReadError>) {
        if set.is_err() {
            // The same good text again, after this, is news.
            self.text.clear();
        }
        self.seat.take(set);
    }
}

/// The file's state before it was read, and its text.
fn read(path: &Path) -> (Option<Print>, Result<String, ReadError>) {
    let open = || -> io::Result<(std::fs::File, Metadata)> {
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok((file, metadata))
    };
    let (file, metadata) = match open() {
        Ok(opened) => opened,
        Err(error) => return (Print::at(path), Err(ReadError::Io(error))),
    };
    let limit = u64::try_from(SOURCE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    let text = match read {
        Err(error) => Err(ReadError::Io(error)),
        Ok(_) if bytes.len() > SOURCE_BYTES_MAX => {
            let max = SOURCE_BYTES_MAX;
            Err(ReadError::Load(LoadError {
                place: Place::START,
                fault: Fault::TooLarge { max },
            }))
        }
        Ok(_) => String::from_utf8(bytes).map_err(|_| ReadError::NotText),
    };
    (Some(Print::of(&metadata)), text)
}
