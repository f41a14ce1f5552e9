//! The records to send: from arguments, files and standard input, each as soon as it is complete.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::vec;

use nigh_socket::MemoryFile;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Stdin};

use super::MessageError;
use crate::cli::SendArgs;
use crate::tap::decode::unhex;

/// Longest record: the most that any packet can have, and far more than a line should.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Where the next record comes from.
#[derive(Debug)]
pub(super) struct Records {
    arguments: vec::IntoIter<String>,
    stdin: Option<BufReader<Stdin>>,
    is_whole: bool,
    is_hex: bool,
    /// On a stream a newline ends each record of text.
    ends_lines: bool,
}

impl Records {
    pub(super) fn of(args: &SendArgs, is_stream: bool) -> Self {
        let mut arguments = args.records.clone();
        if arguments.is_empty() {
            arguments.push("-".to_owned());
        }
        Self {
            arguments: arguments.into_iter(),
            stdin: None,
            is_whole: args.whole,
            is_hex: args.show.hex,
            ends_lines: is_stream,
        }
    }

    /// The next record; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, MessageError> {
        loop {
            if let Some(stdin) = &mut self.stdin {
                match read(stdin, self.is_whole).await? {
                    Some(record) if self.is_whole && !self.is_hex => return Ok(Some(record)),
                    Some(record) => return self.text(record).map(Some),
                    None => self.stdin = None,
                }
            }
            let Some(argument) = self.arguments.next() else {
                return Ok(None);
            };
            if argument == "-" {
                self.stdin = Some(BufReader::new(tokio::io::stdin()));
            } else if let Some(path) = argument.strip_prefix('@') {
                return file(Path::new(path)).map(Some);
            } else {
                return self.text(argument.into_bytes()).map(Some);
            }
        }
    }

    fn text(&self, mut record: Vec<u8>) -> Result<Vec<u8>, MessageError> {
        if self.is_hex {
            let text = String::from_utf8_lossy(&record).into_owned();
            return unhex(&text).ok_or(MessageError::Hex(text));
        }
        if self.ends_lines {
            record.push(b'\n');
        }
        Ok(record)
    }
}

async fn read(stdin: &mut BufReader<Stdin>, whole: bool) -> Result<Option<Vec<u8>>, MessageError> {
    let mut record = Vec::new();
    let limit = u64::try_from(RECORD_BYTES_MAX + 1).unwrap_or(u64::MAX);
    let mut limited = stdin.take(limit);
    let read = match whole {
        true => limited.read_to_end(&mut record).await,
        false => limited.read_until(b'\n', &mut record).await,
    };
    let length = read.map_err(MessageError::Input)?;
    if length > RECORD_BYTES_MAX {
        let max = RECORD_BYTES_MAX;
        return Err(MessageError::Long { max });
    }
    if !whole && record.last() == Some(&b'\n') {
        record.pop();
    }
    Ok((length > 0).then_some(record))
}

fn file(path: &Path) -> Result<Vec<u8>, MessageError> {
    let failed = |source| MessageError::File {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(RECORD_BYTES_MAX + 1).unwrap_or(u64::MAX);
    let length = File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(failed)?;
    match length > RECORD_BYTES_MAX {
        true => Err(MessageError::Long {
            max: RECORD_BYTES_MAX,
        }),
        false => Ok(bytes),
    }
}

/// The descriptors that go with the first record.
pub(super) fn descriptors(args: &SendArgs) -> Result<Vec<OwnedFd>, MessageError> {
    let files = args.fd.iter().map(|path| (path, open(path)));
    let copies = args.memory.iter().map(|path| (path, sealed(path)));
    let opened = files.chain(copies).map(|(path, opened)| {
        opened.map_err(|source| MessageError::File {
            path: path.clone(),
            source,
        })
    });
    opened.collect()
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    match path == Path::new("-") {
        true => io::stdin().as_fd().try_clone_to_owned(),
        false => File::open(path).map(OwnedFd::from),
    }
}

fn sealed(path: &Path) -> io::Result<OwnedFd> {
    let mut file = File::open(path)?;
    let mut copy = MemoryFile::create("nigh send")?;
    io::copy(&mut file, &mut copy)?;
    Ok(copy.seal()?.into())
}
