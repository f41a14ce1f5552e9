//! What a socket was asked to bring beside the bytes; where that is nothing, receiving is a plain `recv`.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::opt::{self, Flag};

/// What may come with a message. A guess on the safe side: what others set on the same socket is not seen.
#[derive(Debug)]
pub(crate) struct Asked {
    rights: AtomicBool,
    credentials: AtomicBool,
}

impl Asked {
    /// As the socket has it now: an accepted one has its listener's options.
    pub(crate) fn on(socket: BorrowedFd<'_>) -> Self {
        // A kernel that cannot say lets everything in.
        let may = |flag| AtomicBool::new(opt::flag(socket, flag).unwrap_or(true));
        Self {
            rights: may(Flag::PassRights),
            credentials: may(Flag::PassCredentials),
        }
    }

    pub(crate) fn set_rights(&self, asked: bool) {
        self.rights.store(asked, Ordering::Relaxed);
    }

    pub(crate) fn set_credentials(&self, asked: bool) {
        self.credentials.store(asked, Ordering::Relaxed);
    }

    /// Whether there are only bytes to receive.
    pub(crate) fn is_bytes_only(&self) -> bool {
        !self.rights.load(Ordering::Relaxed) && !self.credentials.load(Ordering::Relaxed)
    }
}
