//! A blocking call that begins again after a signal, without beginning its timeout again.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

use crate::message::Attempt;

/// The call did not get done in time.
#[derive(Debug)]
pub(super) struct TimedOut;

/// Does `attempt` until it is done. It blocks when told to wait, for the socket's own timeout, which is `timeout`; after
/// a signal what is left of that is waited for with poll, if `readiness` says when to try again.
pub(super) fn until_done<T>(
    socket: BorrowedFd<'_>,
    readiness: Option<PollFlags>,
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
        let left = deadline.map_or(timeout, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return Err(TimedOut);
        }
        // Without a readiness to wait for, only the kernel can wait: for the whole timeout again.
        match attempt(readiness.is_none()) {
            Attempt::Done(done) => return Ok(done),
            Attempt::Interrupted => continue,
            Attempt::WouldBlock => {}
        }
        if readiness.is_none_or(|readiness| wait(socket, readiness, left) == Ok(0)) {
            return Err(TimedOut);
        }
    }
}

/// Sets the socket's own timeout.
pub(super) fn set_timeout(
    socket: BorrowedFd<'_>,
    which: Timeout,
    timeout: Option<Duration>,
) -> io::Result<()> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sockopt::set_socket_timeout(socket, which, timeout)?)
}

/// How many descriptors became ready: one or none.
fn wait(socket: BorrowedFd<'_>, readiness: PollFlags, left: Duration) -> Result<usize, Errno> {
    let left = Timespec::try_from(left).ok();
    rustix::event::poll(
        &mut [PollFd::from_borrowed_fd(socket, readiness)],
        left.as_ref(),
    )
}
