//! What replies of `nigh call --save-fd` bring: described, and its content written to files.
//!
//! Trap: a pipe may be fed for as long as the call runs, or longer: it is read when the call is over. A file's offset is
//! shared with whoever sent it: its content is read without moving that.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nigh::{Descriptors, FileKind, TakeError};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};

use crate::call::fields::{IndexField, IndexFieldError, Purpose};
use crate::fdargs::SaveFd;
use crate::fdinfo::{self, FdFacts};

/// Bytes copied at once.
const PIECE_BYTES: usize = 64 << 10;

/// A descriptor that a reply mentions could not be saved as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceivedError {
    /// It did not come, or was mentioned before.
    #[error("the descriptor that `{field}` mentions: {source}")]
    Take {
        /// The field.
        field: String,
        /// Why it is not there.
        source: TakeError,
    },
    /// It cannot be read, or the file not be written.
    #[error("descriptor {index} cannot be copied to {}", .path.display())]
    Copy {
        /// Its index.
        index: u32,
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What came has no content.
    #[error("descriptor {index} is {kind}: it has no content to write to {}", .path.display())]
    NoContent {
        /// Its index.
        index: u32,
        /// What it is.
        kind: FileKind,
        /// Where to.
        path: PathBuf,
    },
    /// The kernel does not tell what came.
    #[error("descriptor {index} cannot be described")]
    Describe {
        /// Its index.
        index: u32,
        /// Why not.
        source: io::Error,
    },
}

/// A field whose descriptors are saved.
struct Wish {
    field: IndexField,
    to: Option<PathBuf>,
    seen: u32,
}

/// A pipe whose content is written when the call is over.
struct Later {
    index: u32,
    fd: OwnedFd,
    path: PathBuf,
}

/// What has come so far.
#[derive(Default)]
pub(super) struct Received {
    wishes: Vec<Wish>,
    fds: Option<Descriptors>,
    later: Vec<Later>,
    /// One object per descriptor, for `--json`.
    pub(super) described: Vec<Value>,
}

impl Received {
    /// Finds the fields in the type of the replies.
    pub(super) fn expect(
        &mut self,
        reply: &MessageDescriptor,
        wishes: &[SaveFd],
    ) -> Result<(), IndexFieldError> {
        for wish in wishes {
            self.wishes.push(Wish {
                field: IndexField::find(reply, &wish.field, Purpose::Read)?,
                to: wish.path.clone(),
                seen: 0,
            });
        }
        Ok(())
    }

    /// The call has begun, and this is what came and comes with it.
    pub(super) fn of(&mut self, fds: Descriptors) {
        self.fds = Some(fds);
    }

    /// Takes what a reply mentions; returns a line about each.
    pub(super) fn take(&mut self, reply: &DynamicMessage) -> Result<Vec<String>, ReceivedError> {
        let mut lines = Vec::new();
        let Some(fds) = &self.fds else {
            return Ok(lines);
        };
        for wish in &mut self.wishes {
            for index in wish.field.indices(reply) {
                let name = wish.field.name();
                let fd = fds.take(index).map_err(|source| ReceivedError::Take {
                    field: name.to_owned(),
                    source,
                })?;
                let facts = fdinfo::facts(&fd)
                    .map_err(|source| ReceivedError::Describe { index, source })?;
                wish.seen += 1;
                let path = wish.to.as_deref().map(|to| numbered(to, wish.seen));
                lines.push(line(name, index, &facts, path.as_deref()));
                self.described
                    .push(object(name, index, &facts, path.as_deref()));
                if let Some(path) = path {
                    self.later.extend(save(index, fd, &facts, path)?);
                }
            }
        }
        Ok(lines)
    }

    /// Writes the content of pipes, to their end.
    pub(super) fn finish(&mut self) -> Result<(), ReceivedError> {
        for Later { index, fd, path } in self.later.drain(..) {
            let copied = File::create(&path)
                .and_then(|mut file| io::copy(&mut File::from(fd), &mut file).map(drop));
            copied.map_err(|source| ReceivedError::Copy {
                index,
                path,
                source,
            })?;
        }
        Ok(())
    }
}

/// The first one's file is the one that was named.
fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn save(
    index: u32,
    fd: OwnedFd,
    facts: &FdFacts,
    path: PathBuf,
) -> Result<Option<Later>, ReceivedError> {
    match facts.kind {
        FileKind::Regular => match copy(&File::from(fd), facts.size, &path) {
            Ok(()) => Ok(None),
            Err(source) => Err(ReceivedError::Copy {
                index,
                path,
                source,
            }),
        },
        FileKind::Fifo => Ok(Some(Later { index, fd, path })),
        kind => Err(ReceivedError::NoContent { index, kind, path }),
    }
}

/// Copies as much as there was when it came: a file that grows has no end.
fn copy(from: &File, size: u64, path: &Path) -> io::Result<()> {
    let to = File::create(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < size {
        let left = usize::try_from(size - at).unwrap_or(PIECE_BYTES);
        let room = piece.get_mut(..left.min(PIECE_BYTES)).unwrap_or_default();
        let length = match from.read_at(room, at) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all_at(room.get(..length).unwrap_or_default(), at)?;
        at += length as u64;
    }
    Ok(())
}

fn line(field: &str, index: u32, facts: &FdFacts, path: Option<&Path>) -> String {
    let to = path.map_or_else(String::new, |path| format!(", to {}", path.display()));
    format!("{field}: descriptor {index}: {facts}{to}")
}

fn object(field: &str, index: u32, facts: &FdFacts, path: Option<&Path>) -> Value {
    json!({
        "field": field,
        "index": index,
        "description": facts.to_string(),
        "kind": facts.kind.to_string(),
        "size": facts.size,
        "saved": path.map(|path| path.display().to_string()),
    })
}
