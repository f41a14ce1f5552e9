//! Reads requests from an argument, a file or standard input, each as soon as it is complete.
//!
//! Trap: a read from a terminal cannot be cancelled, so it runs on a thread of its own that nobody waits for; the runtime's
//! blocking pool would hold up the end of the program.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::mpsc;

use super::split::Splitter;
use super::{RequestError, json};

/// Requests read ahead of the call.
const AHEAD: usize = 16;
/// Most bytes of one message's text.
const TEXT_BYTES_MAX: usize = 256 << 20;

/// Where the JSON of the requests comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nowhere: one empty message, or an empty stream.
    Nothing,
    /// The command line.
    Argument(String),
    /// A file, which may be a pipe.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no input"),
            Self::Argument(_) => f.write_str("the argument"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// Requests as they are read; ends after the first error.
#[derive(Debug)]
pub struct Requests {
    queue: mpsc::Receiver<Result<DynamicMessage, RequestError>>,
}

impl Requests {
    /// Starts to read messages of type `descriptor` from `input`.
    ///
    /// # Errors
    /// The reading thread cannot be started; what is wrong with the input comes as an item.
    pub fn start(input: &Input, descriptor: MessageDescriptor) -> Result<Self, RequestError> {
        let (sender, queue) = mpsc::channel(AHEAD);
        let reader = Reader {
            from: input.clone(),
            descriptor,
            sender,
            index: 0,
        };
        std::thread::Builder::new()
            .name("requests".to_owned())
            .spawn(move || reader.run())
            .map_err(|source| RequestError::Read {
                from: input.clone(),
                source,
            })?;
        Ok(Self { queue })
    }

    /// The next request; `None` at the end of the input.
    ///
    /// # Cancel safety
    /// No request is lost.
    pub async fn next(&mut self) -> Option<Result<DynamicMessage, RequestError>> {
        self.queue.recv().await
    }
}

impl tokio_stream::Stream for Requests {
    type Item = Result<DynamicMessage, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_recv(cx)
    }
}

/// The call is over and wants no more requests.
struct Over;

struct Reader {
    from: Input,
    descriptor: MessageDescriptor,
    sender: mpsc::Sender<Result<DynamicMessage, RequestError>>,
    index: u64,
}

impl Reader {
    fn run(mut self) {
        // Either way there is nobody left to tell.
        let _ = match self.open() {
            Ok(source) => self.read(source),
            Err(source) => self.unreadable(source),
        };
    }

    /// Opens the input, which for a pipe waits until somebody writes.
    fn open(&self) -> io::Result<Box<dyn BufRead>> {
        Ok(match &self.from {
            Input::Nothing => Box::new(io::empty()),
            Input::Argument(text) => Box::new(io::Cursor::new(text.clone().into_bytes())),
            Input::File(path) => Box::new(BufReader::new(File::open(path)?)),
            Input::Stdin => Box::new(BufReader::new(io::stdin())),
        })
    }

    fn unreadable(&self, source: io::Error) -> Result<(), Over> {
        let from = self.from.clone();
        self.send(Err(RequestError::Read { from, source }))
    }

    fn read(&mut self, mut source: Box<dyn BufRead>) -> Result<(), Over> {
        let mut splitter = Splitter::default();
        loop {
            let mut line = Vec::new();
            let room = (TEXT_BYTES_MAX - splitter.pending()) as u64 + 1;
            let read = source.by_ref().take(room).read_until(b'\n', &mut line);
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return self.unreadable(source),
                Ok(0) => {
                    return splitter.finish().map_or(Ok(()), |text| self.parse(&text));
                }
                Ok(_) => {
                    if let Some(text) = splitter.push(&line) {
                        self.parse(&text)?;
                    } else if splitter.pending() > TEXT_BYTES_MAX {
                        return self.send(Err(RequestError::TooLong {
                            from: self.from.clone(),
                            index: self.index,
                            limit: TEXT_BYTES_MAX,
                        }));
                    }
                }
            }
        }
    }

    fn parse(&mut self, text: &[u8]) -> Result<(), Over> {
        let descriptor = self.descriptor.clone();
        for message in json::messages(&descriptor, text) {
            let index = self.index;
            let failed = message.is_err();
            self.send(message.map_err(|source| RequestError::Json {
                from: self.from.clone(),
                index,
                source,
            }))?;
            if failed {
                return Err(Over);
            }
            self.index += 1;
        }
        Ok(())
    }

    fn send(&self, message: Result<DynamicMessage, RequestError>) -> Result<(), Over> {
        self.sender.blocking_send(message).map_err(|_| Over)
    }
}
