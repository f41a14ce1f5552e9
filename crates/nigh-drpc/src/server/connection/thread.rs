//! A connection whose caller calls without a pause may have a thread, which blocks until the next packet is there.
//!
//! In the reactor a call takes two system calls more: one that waits for any socket, and one to learn that nothing is
//! left. A thread is lent only while its caller is busy: after a pause of 10 ms it goes back.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nigh_socket::{Drain, RecvError};
use tokio::sync::OwnedSemaphorePermit;

use super::line::{Blocking, Line};
use super::{Connection, Ended, Ending};

/// A caller is busy when it makes so many calls within `BUSY_TIME`.
const BUSY_CALLS: u32 = 32;
const BUSY_TIME: Duration = Duration::from_millis(16);

/// How fast a caller calls.
#[derive(Default)]
pub(super) struct Pace {
    calls: u32,
    since: Option<Instant>,
    is_busy: bool,
}

impl Pace {
    pub(super) fn call(&mut self) {
        self.calls += 1;
        if self.calls >= BUSY_CALLS {
            let now = Instant::now();
            let since = self.since.replace(now);
            self.is_busy = since.is_some_and(|since| now.duration_since(since) < BUSY_TIME);
            self.calls = 0;
        }
    }
}

impl Connection {
    /// The right to a thread, if the caller is busy and one is left.
    pub(super) fn wants_thread(&mut self) -> Option<OwnedSemaphorePermit> {
        if !self.pace.is_busy || self.is_draining || !self.is_idle() || self.line.is_on_a_thread() {
            return None;
        }
        self.pace.is_busy = false;
        Arc::clone(&self.shared.threads).try_acquire_owned().ok()
    }

    /// Serves on a thread for as long as the caller is busy and handlers answer at once.
    pub(super) async fn serve_on_thread(
        mut self,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Self, Option<Ended>), Ending> {
        let Line::Reactor(socket) = &self.line else {
            return Ok((self, None));
        };
        // For want of a descriptor it stays where it is.
        let Ok(blocking) = Line::blocking(socket) else {
            return Ok((self, None));
        };
        let recall = Recall(Some(Arc::clone(&blocking)));
        self.line = Line::Thread(Arc::clone(&blocking));
        self.is_unstamped = false;
        let mut drain = self.signal.clone();
        let mut thread = tokio::task::spawn_blocking(move || {
            let polled = self.poll(&mut Context::from_waker(Waker::noop()));
            let goes = matches!(polled, Poll::Pending | Poll::Ready(Ok(Ended::MayGo)));
            if !goes {
                self.gone.send_replace(true);
            }
            drop(permit);
            (self, polled)
        });
        let done = tokio::select! {
            done = &mut thread => done,
            () = begun(&mut drain) => {
                blocking.recalled.store(true, Ordering::Relaxed);
                thread.await
            }
        };
        recall.disarm();
        let (mut this, polled) = match done {
            Ok(done) => done,
            // As if it had happened here.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(Ending::RuntimeEnded),
            },
        };
        let ended = match polled {
            Poll::Ready(ended) => Some(ended?),
            Poll::Pending => None,
        };
        let line = Line::reactor(&blocking);
        this.line = line.map_err(|error| Ending::Recv(RecvError::System(error)))?;
        this.is_unstamped = false;
        Ok((this, ended))
    }
}

async fn begun(drain: &mut Option<Drain>) {
    match drain {
        Some(drain) => {
            let _deadline = drain.begun().await;
        }
        None => std::future::pending().await,
    }
}

/// Ends the connection when its future is dropped while a thread serves it.
struct Recall(Option<Arc<Blocking>>);

impl Recall {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Recall {
    fn drop(&mut self) {
        if let Some(blocking) = &self.0 {
            blocking.recalled.store(true, Ordering::Relaxed);
            // It may have ended already.
            let _ = blocking.socket.shutdown(Shutdown::Both);
        }
    }
}
