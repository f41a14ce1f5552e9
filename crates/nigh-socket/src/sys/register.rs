//! Registers a descriptor with tokio's reactor for one direction.
//!
//! tokio made this `unsafe` (tokio PR 8587): the descriptor must stay open, and be the same one, while it is registered.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An owner of exactly one descriptor that it neither closes nor swaps before it is dropped.
///
/// # Safety
/// `as_raw_fd` must return the same open descriptor until the value is dropped.
pub(crate) unsafe trait StableFd: AsRawFd {}

// SAFETY: an `OwnedFd` closes its descriptor only when dropped and never exchanges it.
unsafe impl StableFd for OwnedFd {}

// SAFETY: a `Listener` owns one descriptor, never exchanges it, and closes it when dropped, which the `Arc` puts off.
unsafe impl StableFd for std::sync::Arc<crate::listener::Listener> {}

/// Registers `fd` for `interest`; it is deregistered before it is closed, because `AsyncFd` owns it.
pub(crate) fn register<T: StableFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `StableFd` promises that the descriptor is open and unchanged for as long as `AsyncFd` owns it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(io::Error::from)
}
