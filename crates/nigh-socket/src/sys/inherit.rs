//! Takes over a descriptor that this process inherited and that an address (`fd:N`) names by its number.
//!
//! Trap: a number is not ownership. What Rust code opens is close-on-exec, and what comes through exec cannot be; so only
//! a descriptor without that flag is taken, and taking sets it: no number is taken twice, nor from its owner.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{Errno, FdFlags};

use crate::inherit::{InheritedError, prepare, system};

/// Two threads must not find the flag clear for one number.
static TAKING: Mutex<()> = Mutex::new(());

/// Checks the descriptor; then takes it over, non-blocking and close-on-exec. Left as it was when it is refused.
pub(crate) fn take<T>(
    number: RawFd,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<T, InheritedError>,
) -> Result<(OwnedFd, T), InheritedError> {
    claim(number, |borrowed| {
        let found = check(borrowed)?;
        prepare(borrowed)?;
        Ok(found)
    })
}

/// Takes it over, whatever it is: close-on-exec, and nothing else of it is changed.
pub(crate) fn own(number: RawFd) -> Result<OwnedFd, InheritedError> {
    let closed_on_exec = |borrowed: BorrowedFd<'_>| {
        rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(system)
    };
    claim(number, closed_on_exec).map(|(owned, ())| owned)
}

/// `settle` must set close-on-exec where it succeeds.
fn claim<T>(
    number: RawFd,
    settle: impl FnOnce(BorrowedFd<'_>) -> Result<T, InheritedError>,
) -> Result<(OwnedFd, T), InheritedError> {
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if number < 0 {
        return Err(InheritedError::NotOpen(number));
    }
    // SAFETY: not -1 (checked above). It is only asked with; `fcntl_getfd` reports EBADF when it is not open, and the
    // lock above keeps the other user of this function from taking and closing it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    match rustix::io::fcntl_getfd(borrowed) {
        Err(Errno::BADF) => return Err(InheritedError::NotOpen(number)),
        Err(error) => return Err(system(error)),
        Ok(flags) if flags.contains(FdFlags::CLOEXEC) => return Err(InheritedError::Owned(number)),
        Ok(_) => {}
    }
    let found = settle(borrowed)?;
    // SAFETY: open (`fcntl_getfd` above), and nobody in this program owns it: without close-on-exec it came through exec,
    // and `settle` has set the flag that keeps it from being taken again.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    Ok((owned, found))
}
