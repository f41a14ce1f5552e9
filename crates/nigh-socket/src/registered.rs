//! A socket in tokio's reactor: for reading always, for writing only while a send buffer is full.
//!
//! Trap: a socket that is registered for writing gets an edge each time its peer *reads*, one wake-up per message. And
//! "writable" comes only when three quarters of the buffer are free: so a send is tried first and waited for after.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
}

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
        mut read: impl FnMut(BorrowedFd<'_>) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let mut ready = ready!(self.reader.poll_read_ready(cx))?;
            match read(ready.get_inner().as_fd()) {
                Some(done) => return Poll::Ready(Ok(done)),
                None => ready.clear_ready(),
            }
        }
    }

    /// Tries to write, and waits while `write` answers `None`.
    pub(crate) async fn write<T>(
        &self,
        mut write: impl FnMut(BorrowedFd<'_>) -> Option<T>,
    ) -> io::Result<T> {
        if let Some(done) = write(self.as_fd()) {
            return Ok(done);
        }
        let writer = self.writer(&mut self.lock())?;
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
        if let Some(done) = write(self.as_fd()) {
            return Poll::Ready(Ok(self.written(done)));
        }
        let writer = {
            let mut writing = self.lock();
            let writer = self.writer(&mut writing)?;
            writing.polled = Some(Arc::clone(&writer));
            writer
        };
        self.is_polled.store(true, Ordering::Relaxed);
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
            self.lock().polled = None;
        }
        done
    }

    fn writer(&self, writing: &mut Writing) -> io::Result<Arc<AsyncFd<OwnedFd>>> {
        if let Some(writer) = writing.shared.upgrade() {
            return Ok(writer);
        }
        let duplicate = self.reader.get_ref().try_clone()?;
        let writer = Arc::new(register(duplicate, Interest::WRITABLE)?);
        writing.shared = Arc::downgrade(&writer);
        Ok(writer)
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
