//! Accepts from one listener for as long as it exists: no caller's fault and no shortage ends it.
//!
//! Trap: with no descriptor left, `accept` fails and the listener stays readable, so retrying at once
//! burns a core. Accepting pauses instead, until a connection is closed or a timer runs out.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::address::Address;
use crate::counters::Counters;
use crate::incoming::Incoming;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::listener::Listener;
use crate::quota::Quota;
use crate::sys::register::register;

pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(5);
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Callers lost one after the other before accepting pauses: a fault that takes nobody off the queue,
/// such as a system call filter's, would otherwise be met again at once.
pub(crate) const LOST_MAX: u32 = 8;

/// The listener itself can accept no more; what was accepted before is unharmed.
#[derive(Debug, thiserror::Error)]
#[error("accept on {address}: the listener is unusable")]
pub struct AcceptError {
    /// The listener's address as published.
    pub address: Address,
    /// What the kernel said.
    pub source: io::Error,
}

/// What a failed `accept` means for the listener.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// That one connection is gone; the next may be fine.
    OneConnection,
    /// Descriptors or memory have run out; the listener is fine.
    Shortage,
    /// The listener cannot accept any more.
    Listener,
}

pub(crate) fn classify(error: &io::Error) -> Fault {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Fault::Shortage,
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
            Fault::Listener
        }
        // accept(2): the rest are the new connection's pending errors, and signals.
        _ => Fault::OneConnection,
    }
}

/// What acceptors of one server share.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) quota: Arc<Quota>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) journal: Arc<Journal>,
}

impl Ledger {
    pub(crate) fn new(limits: &Limits, counters: Arc<Counters>) -> Self {
        Self {
            quota: Quota::new(limits),
            counters,
            journal: Arc::new(Journal::new(limits.log_lines_per_second)),
        }
    }
}

type Accept = Box<dyn FnMut(&Listener) -> io::Result<OwnedFd> + Send>;

/// Turns a [`Listener`] into a sequence of [`Incoming`] connections.
pub struct Acceptor {
    listener: AsyncFd<Arc<Listener>>,
    address: Arc<Address>,
    ledger: Ledger,
    accept: Accept,
    pause: Duration,
    paused_until: Option<Instant>,
    lost_in_a_row: u32,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Starts accepting from `listener`, outside any [`Front`](crate::Front) and its quotas.
    ///
    /// # Errors
    /// Fails when the reactor cannot register the listener. Must be called inside a tokio runtime.
    pub fn new(listener: Listener) -> io::Result<Self> {
        Self::with(
            Arc::new(listener),
            Ledger::new(&Limits::default(), Arc::default()),
        )
    }

    pub(crate) fn with(listener: Arc<Listener>, ledger: Ledger) -> io::Result<Self> {
        Ok(Self {
            address: Arc::new(listener.address().clone()),
            listener: register(listener, Interest::READABLE)?,
            ledger,
            accept: Box::new(|listener| listener.accept()),
            pause: PAUSE_MIN,
            paused_until: None,
            lost_in_a_row: 0,
        })
    }

    /// The listener's address as published.
    #[must_use]
    pub fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// The next caller. Waits through shortages of descriptors and memory.
    ///
    /// # Errors
    /// Only what makes the listener unusable; never what one caller did.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection is either returned or still in the backlog.
    pub async fn accept(&mut self) -> Result<Incoming, AcceptError> {
        loop {
            // A backlog that never empties is always ready: without this, nobody else would run.
            tokio::task::coop::consume_budget().await;
            self.rest().await;
            let mut ready = self
                .listener
                .readable()
                .await
                .map_err(|e| self.unusable(e))?;
            match (self.accept)(self.listener.get_ref()) {
                Ok(socket) => {
                    match Incoming::new(socket, self.listener.get_ref(), self.address.clone()) {
                        Ok(incoming) => {
                            self.pause = PAUSE_MIN;
                            self.lost_in_a_row = 0;
                            return Ok(incoming);
                        }
                        Err(error) => self.lost(&error),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => match classify(&error) {
                    Fault::OneConnection => self.lost(&error),
                    Fault::Shortage => self.tire(&error),
                    Fault::Listener => return Err(self.unusable(error)),
                },
            }
        }
    }

    /// A caller that is waiting already, without waiting for one; `None` when nobody is, or when
    /// nobody can be accepted for want of descriptors.
    pub(crate) fn accept_waiting(&mut self) -> Option<Incoming> {
        for _ in 0..LOST_MAX {
            let accepted = (self.accept)(self.listener.get_ref());
            let accepted = accepted.and_then(|socket| {
                Incoming::new(socket, self.listener.get_ref(), self.address.clone())
            });
            match accepted {
                Ok(incoming) => return Some(incoming),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if classify(&error) == Fault::OneConnection => self.lost(&error),
                Err(_) => return None,
            }
        }
        None
    }

    async fn rest(&mut self) {
        if let Some(until) = self.paused_until {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.ledger.quota.returned() => {}
            }
            self.paused_until = None;
        }
    }

    fn tire(&mut self, error: &io::Error) {
        self.ledger.counters.accept_pauses();
        self.ledger.journal.warn(format_args!(
            "accept on {}: {error}; pausing {} ms (raise the descriptor limit or lower connections_max)",
            self.address,
            self.pause.as_millis()
        ));
        self.paused_until = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn lost(&mut self, error: &io::Error) {
        self.lost_in_a_row += 1;
        if self.lost_in_a_row >= LOST_MAX {
            return self.tire(error);
        }
        self.ledger.journal.warn(format_args!(
            "accept on {}: lost one caller: {error}",
            self.address
        ));
    }

    fn unusable(&self, source: io::Error) -> AcceptError {
        AcceptError {
            address: (*self.address).clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart() {
        let of = |errno: Errno| classify(&errno.into());
        assert_eq!(of(Errno::CONNABORTED), Fault::OneConnection);
        assert_eq!(of(Errno::PERM), Fault::OneConnection);
        assert_eq!(of(Errno::INTR), Fault::OneConnection);
        assert_eq!(of(Errno::MFILE), Fault::Shortage);
        assert_eq!(of(Errno::NFILE), Fault::Shortage);
        assert_eq!(of(Errno::NOBUFS), Fault::Shortage);
        assert_eq!(of(Errno::NOMEM), Fault::Shortage);
        assert_eq!(of(Errno::INVAL), Fault::Listener);
    }
    /// A listener that a caller waits at, and an `accept` that fails with `faults` first.
    async fn accept_after(faults: Vec<Errno>) -> (Result<Incoming, AcceptError>, crate::Counts) {
        let listener = Arc::new(Listener::options().bind("autobind:").unwrap());
        let ledger = Ledger::new(&Limits::default(), Arc::default());
        let counters = Arc::clone(&ledger.counters);
        let mut acceptor = Acceptor::with(Arc::clone(&listener), ledger).unwrap();
        let options = crate::ConnectOptions::default();
        let _caller = crate::connect(listener.address(), &options).await.unwrap();
        let mut faults = faults.into_iter();
        acceptor.accept = Box::new(move |listener| match faults.next() {
            Some(fault) => Err(fault.into()),
            None => listener.accept(),
        });
        (acceptor.accept().await, counters.read())
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_pauses_and_the_caller_is_served_after_it() {
        let began = Instant::now();
        let faults = vec![Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        let (accepted, counts) = accept_after(faults).await;
        accepted.unwrap();
        assert_eq!(counts.accept_pauses, 4);
        // 5 + 10 + 20 + 40 ms: each pause is twice the one before.
        assert!(
            began.elapsed() >= Duration::from_millis(75),
            "{:?}",
            began.elapsed()
        );
    }

    #[tokio::test]
    async fn what_happens_to_one_caller_does_not_keep_the_next_waiting() {
        let (accepted, counts) = accept_after(vec![Errno::CONNABORTED, Errno::PERM]).await;
        accepted.unwrap();
        assert_eq!(counts.accept_pauses, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_takes_nobody_off_the_queue_does_not_spin() {
        let (accepted, counts) = accept_after(vec![Errno::PERM; 10]).await;
        accepted.unwrap();
        assert_eq!(
            counts.accept_pauses, 3,
            "after eight in a row, each one pauses"
        );
    }

    #[tokio::test]
    async fn only_a_broken_listener_ends_accepting() {
        let (accepted, _) = accept_after(vec![Errno::INVAL]).await;
        let error = accepted.unwrap_err();
        assert!(error.to_string().contains("unix-abstract:"), "{error}");
    }
}
