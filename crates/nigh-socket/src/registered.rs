//! A socket in tokio's reactor: for reading always, for writing only while a send buffer is full.
//!
//! Trap: a socket that is registered for writing gets an edge each time its peer *reads*, one wake-up per message. And
//! "writable" comes only when three quarters of the buffer are free: so a send is tried first and waited for after.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep};

use crate::sys::register::register;

/// A non-blocking socket with its registrations.
#[derive(Debug)]
pub(crate) struct Registered {
    // Before `reader`, so that the duplicate goes first.
    writing: Mutex<Writing>,
    /// Whether `writing` holds a registration for the poll form; looked at without the lock.
    is_polled: AtomicBool,
    reader: AsyncFd<OwnedFd>,
}

/// The second registration: of a duplicate, because epoll keys on the descriptor and its file.
#[derive(Debug, Default)]
struct Writing {
    /// The one that every waiting task shares; it goes with the last of them.
    shared: Weak<AsyncFd<OwnedFd>>,
    /// What keeps it for a task that polls.
    polled: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Waited for instead by a task that polls, when there is no descriptor for a duplicate.
    retry: Option<Pin<Box<Sleep>>>,
}

/// How long a write waits that cannot be told when there is room: no descriptor is left for that.
const RETRY: Duration = Duration::from_millis(5);

impl Registered {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            writing: Mutex::default(),
            is_polled: AtomicBool::new(false),
            reader: register(socket, Interest::READABLE)?,
        })
    }

    /// Reads when there is something to read; `read` answers `None` when there is nothing.
    ///
    /// What is left to be read after a success is not looked at: readiness stays until `read` says `None`.
    pub(crate) async fn read<T>(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>) -> Option<T>,
    ) -> io::Result<T> {
        loop {
            let mut ready = self.reader.readable().await?;
            match read(ready.get_inner().as_fd()) {
                Some(done) => return Ok(done),
                None => ready.clear_ready(),
            }
        }
    }

    /// As [`read`](Self::read), for one task at a time: the last that polled is woken.
    pub(crate) fn poll_read<T>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnMut(BorrowedFd<'_>) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_read_to_end(cx, read, |_| false)
    }

    /// As [`poll_read`](Self::poll_read), where `is_last` knows what was the last there is, so that nobody looks again.
    pub(crate) fn poll_read_to_end<T>(
        &self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>) -> Option<T>,
        is_last: impl FnOnce(&T) -> bool,
    ) -> Poll<io::Result<T>> {
        loop {
            let mut ready = ready!(self.reader.poll_read_ready(cx))?;
            match read(ready.get_inner().as_fd()) {
                Some(done) => {
                    if is_last(&done) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(done));
                }
                None => ready.clear_ready(),
            }
        }
    }

    /// Tries to write, and waits while `write` answers `None`.
    pub(crate) async fn write<T>(
        &self,
        mut write: impl FnMut(BorrowedFd<'_>) -> Option<T>,
    ) -> io::Result<T> {
        let writer = loop {
            // Sends that never have to wait must not keep a task on its thread for ever.
            tokio::task::coop::consume_budget().await;
            if let Some(done) = write(self.as_fd()) {
                return Ok(done);
            }
            let writer = self.writer(&mut self.lock())?;
            match writer {
                Some(writer) => break writer,
                None => sleep(RETRY).await,
            }
        };
        loop {
            let mut ready = writer.writable().await?;
            match write(ready.get_inner().as_fd()) {
                Some(done) => return Ok(done),
                None => ready.clear_ready(),
            }
        }
    }

    /// As [`write`](Self::write), for one task at a time: the last that polled is woken.
    pub(crate) fn poll_write<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let writer = loop {
            if let Some(done) = write(self.as_fd()) {
                return Poll::Ready(Ok(self.written(done)));
            }
            self.is_polled.store(true, Ordering::Relaxed);
            let mut writing = self.lock();
            if let Some(writer) = self.writer(&mut writing)? {
                writing.polled = Some(Arc::clone(&writer));
                break writer;
            }
            let retry = writing.retry.get_or_insert_with(|| Box::pin(sleep(RETRY)));
            ready!(retry.as_mut().poll(cx));
            writing.retry = None;
        };
        loop {
            let mut ready = ready!(writer.poll_write_ready(cx))?;
            // The try above was before this readiness was seen, so it says nothing about it.
            match write(ready.get_inner().as_fd()) {
                Some(done) => return Poll::Ready(Ok(self.written(done))),
                None => ready.clear_ready(),
            }
        }
    }

    /// Ends the registration that a polling task needed.
    fn written<T>(&self, done: T) -> T {
        if self.is_polled.load(Ordering::Relaxed) {
            self.is_polled.store(false, Ordering::Relaxed);
            let mut writing = self.lock();
            writing.polled = None;
            writing.retry = None;
        }
        done
    }

    /// `None` when no descriptor is left for it: that costs the connection time, and not its life.
    fn writer(&self, writing: &mut Writing) -> io::Result<Option<Arc<AsyncFd<OwnedFd>>>> {
        if let Some(writer) = writing.shared.upgrade() {
            return Ok(Some(writer));
        }
        let duplicate = match self.reader.get_ref().try_clone() {
            Ok(duplicate) => duplicate,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE) => return Ok(None),
                _ => return Err(error),
            },
        };
        let writer = Arc::new(register(duplicate, Interest::WRITABLE)?);
        writing.shared = Arc::downgrade(&writer);
        Ok(Some(writer))
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().as_fd()
    }
}
