//! The options that every kind of socket has, async and blocking: written once, and methods of each type.

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
                let socket = std::os::fd::AsFd::as_fd(self);
                Ok($crate::sys::opt::pass_credentials(socket, pass)?)
            }

            /// Whether others may send descriptors; answers whether this kernel can be told so (Linux 6.16).
            ///
            /// # Errors
            /// What `setsockopt(2)` reports.
            pub fn set_pass_rights(&self, pass: bool) -> std::io::Result<bool> {
                let socket = std::os::fd::AsFd::as_fd(self);
                Ok($crate::sys::opt::pass_rights(socket, pass)?)
            }
        }
    };
}

pub(crate) use socket_options;
