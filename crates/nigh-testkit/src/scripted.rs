//! A stream that does what a script says: data in pieces, pauses, short reads and writes, errors, an end.
//!
//! Trap: a script that has run out reads as *pending for ever*, not as the end; the end is a step of its own.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the next read does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give these bytes, over several reads where the buffer is smaller.
    Data(Vec<u8>),
    /// Let the next read have at most this many bytes of what follows.
    Short(usize),
    /// Be pending once; the reader is woken at once.
    Pending,
    /// Fail once with this kind.
    Error(io::ErrorKind),
    /// End, at every read from here on.
    Eof,
}

/// What the next write does. When no step is left, a write takes what the capacity has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteStep {
    /// Take at most this many bytes.
    Short(usize),
    /// Be pending once; the writer is woken at once.
    Pending,
    /// Fail once with this kind.
    Error(io::ErrorKind),
}

/// One end of a connection whose other end is a script.
#[derive(Debug)]
pub struct Scripted {
    state: Arc<Mutex<State>>,
}

/// The script's side: see what was written, add steps, grant write capacity.
#[derive(Debug, Clone)]
pub struct Script {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    reads: VecDeque<Step>,
    writes: VecDeque<WriteStep>,
    written: Vec<u8>,
    capacity: Option<usize>,
    shut_down: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Scripted {
    /// A stream whose reads follow these steps and whose writes all succeed.
    #[must_use]
    pub fn new(reads: impl IntoIterator<Item = Step>) -> Self {
        let state = State {
            reads: reads.into_iter().collect(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A stream that gives these bytes one per read, then ends: the worst way to split a message.
    #[must_use]
    pub fn byte_by_byte(data: &[u8]) -> Self {
        let bytes = data.iter().map(|byte| Step::Data(vec![*byte]));
        Self::new(bytes.chain([Step::Eof]))
    }

    /// Writes follow these steps first.
    #[must_use]
    pub fn writes(self, steps: impl IntoIterator<Item = WriteStep>) -> Self {
        lock(&self.state).writes.extend(steps);
        self
    }

    /// Writes take this many bytes in total and are pending then, until [`Script::grant`].
    #[must_use]
    pub fn write_capacity(self, bytes: usize) -> Self {
        lock(&self.state).capacity = Some(bytes);
        self
    }

    /// The script's side, to keep while the stream is given away.
    #[must_use]
    pub fn script(&self) -> Script {
        Script {
            state: Arc::clone(&self.state),
        }
    }
}

impl Script {
    /// Everything written so far.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        lock(&self.state).written.clone()
    }

    /// Whether the writing side was shut down.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        lock(&self.state).shut_down
    }

    /// Adds a step at the end and wakes a reader that waits for one.
    pub fn push(&self, step: Step) {
        let mut state = lock(&self.state);
        state.reads.push_back(step);
        wake(state.reader.take());
    }

    /// Lets writes take this many bytes more and wakes a writer that waits for room.
    pub fn grant(&self, bytes: usize) {
        let mut state = lock(&self.state);
        state.capacity = state.capacity.map(|left| left + bytes);
        wake(state.writer.take());
    }
}

impl State {
    fn poll_read(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut limit = buf.remaining();
        while let Some(step) = self.reads.pop_front() {
            match step {
                Step::Short(bytes) => limit = limit.min(bytes),
                Step::Data(mut data) => {
                    let rest = data.split_off(limit.min(data.len()));
                    buf.put_slice(&data);
                    if !rest.is_empty() {
                        self.reads.push_front(Step::Data(rest));
                    }
                    return Poll::Ready(Ok(()));
                }
                Step::Pending => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Error(kind) => return Poll::Ready(Err(kind.into())),
                Step::Eof => {
                    self.reads.push_front(Step::Eof);
                    return Poll::Ready(Ok(()));
                }
            }
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut length = data.len();
        match self.writes.pop_front() {
            Some(WriteStep::Pending) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(WriteStep::Error(kind)) => return Poll::Ready(Err(kind.into())),
            Some(WriteStep::Short(bytes)) => length = length.min(bytes),
            None => {}
        }
        if let Some(left) = self.capacity {
            if left == 0 && !data.is_empty() {
                self.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            length = length.min(left);
            self.capacity = Some(left - length);
        }
        self.written.extend_from_slice(&data[..length]);
        Poll::Ready(Ok(length))
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        lock(&self.state).poll_read(cx, buf)
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.state).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.state).shut_down = true;
        Poll::Ready(Ok(()))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no panic while it was held")
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
