//! The limits of calls: sizes, numbers and times, each with unit and reason. Connections have theirs in nigh-socket.

use std::time::Duration;

use crate::wire::PACKET_BYTES_MAX;

/// What one connection may hold and how long it may take, on either side.
///
/// Start from `Limits::default()` and assign the fields that should differ. An idle connection is kept for ever: the
/// kernel reports the death of a local peer at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one message, in each direction. Default 64 MiB. Detecting the framing is exact up to
    /// [`AUTO_MESSAGE_BYTES_MAX`](crate::wire::AUTO_MESSAGE_BYTES_MAX) and refused above.
    pub message_bytes_max: u64,
    /// Bytes of one message in the legacy framing, where it is one packet. Default 131,072: C peers have
    /// buffers of that size. Go peers of 2.6 take 1 MiB, if the send buffer does.
    pub legacy_bytes_max: usize,
    /// Calls of one connection that are handled at once, for callers that agreed on pipelining; all others get
    /// one. Default 64. Above it reading stops, so that a caller waits in its own send buffer.
    pub calls_in_flight_max: u32,
    /// Calls that are handled at once for one user (uid) over all its connections. Default 1024. One more is answered
    /// FAILURE, with reason "unavailable, try again" for callers of this project.
    pub calls_per_uid_max: usize,
    /// Bytes of the calls of one connection that are handled at once. Default 128 MiB: what calls of full
    /// size could make the server hold otherwise is 64 times the message limit.
    pub in_flight_bytes_max: usize,
    /// Time to complete a message from its first packet on. Default 30 s.
    pub message_time: Duration,
    /// Time to get a message written to a peer that does not read. Default 30 s.
    pub write_time: Duration,
    /// Bytes read from a refused caller while it is being told. Default 64 KiB.
    pub refusal_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 << 20,
            legacy_bytes_max: PACKET_BYTES_MAX,
            calls_in_flight_max: 64,
            calls_per_uid_max: 1024,
            in_flight_bytes_max: 128 << 20,
            message_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            refusal_bytes_max: 64 * 1024,
        }
    }
}
