//! How many descriptors a service or a channel takes, each limit with its unit and reason.

/// Limits of descriptors received. Start from `FdLimits::default()` and assign the fields that should differ.
///
/// What one user may make a server hold over all its connections is
/// [`descriptors_per_uid_max`](nigh_socket::Limits::descriptors_per_uid_max).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FdLimits {
    /// Descriptors in one carrier: those attached at once to one message. At most 253, which is the kernel's.
    /// Default 64, so that one message costs little when it is refused.
    pub per_message_max: u16,
    /// Descriptors of one call that came and were not taken yet. Default 64. A stream's sender may be ahead of its
    /// receiver by a window of messages: let it wait for answers, or allow as many as the window holds.
    pub per_call_max: u32,
    /// Descriptors that came over one connection and were not taken yet. Default 256: a quarter of the usual
    /// soft limit of 1024 for a process.
    pub per_connection_max: u32,
    /// Whether descriptors may come and go in grpcfd's way too: by `inode://` URL, outside any call. Default no.
    pub inode_table: bool,
}

/// What the kernel takes in one message.
const KERNEL_MESSAGE_MAX: u16 = 253;

impl Default for FdLimits {
    fn default() -> Self {
        Self {
            per_message_max: 64,
            per_call_max: 64,
            per_connection_max: 256,
            inode_table: false,
        }
    }
}

impl FdLimits {
    /// The default limits, and grpcfd's inode table switched on.
    #[must_use]
    pub fn with_inode_table() -> Self {
        Self {
            inode_table: true,
            ..Self::default()
        }
    }

    pub(crate) fn per_message(&self) -> u16 {
        self.per_message_max.min(KERNEL_MESSAGE_MAX)
    }

    /// The larger of each: what a connection must be ready for that serves several services.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            per_message_max: self.per_message_max.max(other.per_message_max),
            per_call_max: self.per_call_max.max(other.per_call_max),
            per_connection_max: self.per_connection_max.max(other.per_connection_max),
            inode_table: self.inode_table || other.inode_table,
        }
    }
}
