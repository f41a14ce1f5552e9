//! A blocking call that begins again after a signal, without beginning its timeout again.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::message::Attempt;

/// The call did not get done in time.
#[derive(Debug)]
pub(super) struct TimedOut;

/// Does `attempt` until it is done. It blocks when told to wait, for the socket's own timeout, which is `timeout`; after
/// a signal what is left of that is waited for with poll.
pub(super) fn until_done<T>(
    socket: BorrowedFd<'_>,
    readiness: PollFlags,
    timeout: Option<Duration>,
    mut attempt: impl FnMut(bool) -> Attempt<T>,
) -> Result<T, TimedOut> {
    let Some(timeout) = timeout else {
        loop {
            if let Attempt::Done(done) = attempt(true) {
                return Ok(done);
            }
        }
    };
    let deadline = Instant::now().checked_add(timeout);
    match attempt(true) {
        Attempt::Done(done) => return Ok(done),
        Attempt::WouldBlock => return Err(TimedOut),
        Attempt::Interrupted => {}
    }
    loop {
        match attempt(false) {
            Attempt::Done(done) => return Ok(done),
            Attempt::Interrupted => continue,
            Attempt::WouldBlock => {}
        }
        let left = deadline.map_or(timeout, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() || wait(socket, readiness, left) == Ok(0) {
            return Err(TimedOut);
        }
    }
}

/// How many descriptors became ready: one or none.
fn wait(socket: BorrowedFd<'_>, readiness: PollFlags, left: Duration) -> Result<usize, Errno> {
    let left = Timespec::try_from(left).ok();
    rustix::event::poll(
        &mut [PollFd::from_borrowed_fd(socket, readiness)],
        left.as_ref(),
    )
}
