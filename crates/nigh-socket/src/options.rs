//! The options that every kind of socket has, async and blocking: written once, and methods of each type.

use std::io;
use std::os::fd::AsFd;

use crate::message::Asked;
use crate::sys::opt;

/// A socket that may remember what it asked for.
pub(crate) trait Asks: AsFd {
    /// Where it does; streams are told with each call what is wanted.
    fn asked(&self) -> Option<&Asked>;
}

pub(crate) fn pass_credentials(socket: &impl Asks, pass: bool) -> io::Result<()> {
    let asked = socket.asked();
    if let (Some(asked), true) = (asked, pass) {
        asked.set_credentials(true);
    }
    opt::pass_credentials(socket.as_fd(), pass)?;
    if let (Some(asked), false) = (asked, pass) {
        asked.set_credentials(false);
    }
    Ok(())
}

pub(crate) fn pass_rights(socket: &impl Asks, pass: bool) -> io::Result<bool> {
    let asked = socket.asked();
    if let (Some(asked), true) = (asked, pass) {
        asked.set_rights(true);
    }
    let is_told = opt::pass_rights(socket.as_fd(), pass)?;
    if let (Some(asked), false) = (asked, pass) {
        asked.set_rights(false);
    }
    Ok(is_told)
}

/// Gives a socket type its options; `message` also the longest message.
macro_rules! socket_options {
    ($socket:ident, message) => {
        $crate::options::socket_options!($socket, stream);

        impl $socket {
            /// The longest message in bytes that can be sent, with the send buffer as it is now.
            ///
            /// # Errors
            /// What `getsockopt(2)` reports.
            pub fn message_bytes_max(&self) -> std::io::Result<usize> {
                $crate::buffer::message_bytes_max(std::os::fd::AsFd::as_fd(self))
            }
        }
    };
    ($socket:ident, stream) => {
        impl $socket {
            /// The send buffer in bytes. It alone decides how much is on its way; the receiver's has no say.
            ///
            /// # Errors
            /// What `getsockopt(2)` reports.
            pub fn send_buffer(&self) -> std::io::Result<usize> {
                $crate::buffer::send_buffer(std::os::fd::AsFd::as_fd(self))
            }

            /// Asks for a send buffer of so many bytes; returns what it is now: more for very small ones, and no more
            /// than the system allows (twice `net.core.wmem_max`).
            ///
            /// # Errors
            /// What `setsockopt(2)` reports.
            pub fn set_send_buffer(&self, bytes: usize) -> std::io::Result<usize> {
                $crate::buffer::set_send_buffer(std::os::fd::AsFd::as_fd(self), bytes)
            }

            /// Whether what is received from now on says who wrote it (`sender`): how to notice that another process
            /// writes. On a stream, bytes of two writers never come in one chunk then. What was written before says that
            /// it does not know: ask before there can be anything, with [`ListenerOptions::pass_credentials`] or
            /// [`ConnectOptions::pass_credentials`].
            ///
            /// Trap: a socket without a name that asks gets an abstract one when it connects or sends.
            ///
            /// [`ListenerOptions::pass_credentials`]: crate::ListenerOptions::pass_credentials
            /// [`ConnectOptions::pass_credentials`]: crate::ConnectOptions::pass_credentials
            ///
            /// # Errors
            /// What `setsockopt(2)` reports.
            pub fn set_pass_credentials(&self, pass: bool) -> std::io::Result<()> {
                $crate::options::pass_credentials(self, pass)
            }

            /// Whether others may send descriptors; answers whether this kernel can be told so (Linux 6.16).
            ///
            /// A socket of messages that takes neither descriptors nor credentials, and no empty packets either, receives
            /// as fast as a plain one: what is on its way all the same is closed by the kernel.
            ///
            /// # Errors
            /// What `setsockopt(2)` reports.
            pub fn set_pass_rights(&self, pass: bool) -> std::io::Result<bool> {
                $crate::options::pass_rights(self, pass)
            }
        }
    };
}

pub(crate) use socket_options;
