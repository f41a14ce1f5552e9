//! The limits of calls, beside those of connections: each with its unit and reason.

use std::time::Duration;

use nigh_socket::Spin;

use crate::shared_memory::SharedMemory;

/// How often a silent peer over TCP is asked for a sign of life, and how long that may take, unless
/// said otherwise: on both sides.
pub(crate) const KEEPALIVE_REMOTE: Duration = Duration::from_secs(30);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a [`Server`](crate::Server) allows each connection and call.
///
/// Start from `Limits::default()` and assign the fields that should differ. The size of one message
/// is the generated service's own limit (`max_decoding_message_size`, tonic's default 4 MiB).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Limits {
    /// Limits of accepting: connections in total and per uid, refusals, greeting and drain times.
    pub connections: nigh_socket::Limits,
    /// Limits of each connection that speaks the nigh wire.
    pub nigh: NighLimits,
    /// Limits of each HTTP/2 connection.
    pub http2: Http2Limits,
    /// Limits of each HTTP/1.1 connection.
    pub http1: Http1Limits,
}

/// Limits of one HTTP/2 connection (RFC 9113).
///
/// What one caller can make the server hold, at worst: [`connection_window_bytes`](Self::connection_window_bytes) of
/// requests that no handler reads, and for each of [`concurrent_streams_max`](Self::concurrent_streams_max) calls
/// [`send_buffer_bytes_max`](Self::send_buffer_bytes_max) of answers that it does not read, and the one message that
/// went over it. By default that is 2 MiB + 256 x 256 KiB = 66 MiB and 256 messages per connection, times
/// [`connections_per_uid_max`](nigh_socket::Limits::connections_per_uid_max) for a user: lower these limits where
/// callers are not trusted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Http2Limits {
    /// Calls in flight on one connection; more wait at the client. Default 256.
    pub concurrent_streams_max: u32,
    /// Bytes of one call's headers, as RFC 9113 6.5.2 counts them. Default 16 KiB.
    pub header_list_bytes_max: u32,
    /// Bytes that one call may send ahead of its handler. Default 1 MiB.
    pub stream_window_bytes: u32,
    /// Bytes that one connection may send ahead of its handlers. Default 2 MiB: what an idle
    /// handler can make the server hold.
    pub connection_window_bytes: u32,
    /// Bytes of one frame. Default 256 KiB: larger ones delay the other calls of the connection.
    pub frame_bytes_max: u32,
    /// Bytes of answers buffered for one call that its caller has not read. Default 256 KiB.
    pub send_buffer_bytes_max: usize,
    /// Calls that the caller cancelled before the server looked at them; above it the connection is
    /// ended as a reset flood. Default 1024: a client that cancels 256 running calls at once is not one.
    pub pending_resets_max: usize,
    /// How often to ask a silent peer on this machine for a sign of life. Default never: the kernel
    /// reports the death of a local process at once.
    pub keepalive: Option<Duration>,
    /// The same for a peer over TCP, whose machine can vanish without a word. Default 30 s.
    pub keepalive_remote: Option<Duration>,
    /// How long to wait for that sign. Default 20 s.
    pub keepalive_timeout: Duration,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            concurrent_streams_max: 256,
            header_list_bytes_max: 16 * 1024,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 2 * 1024 * 1024,
            frame_bytes_max: 256 * 1024,
            send_buffer_bytes_max: 256 * 1024,
            pending_resets_max: 1024,
            keepalive: None,
            keepalive_remote: Some(KEEPALIVE_REMOTE),
            keepalive_timeout: KEEPALIVE_TIMEOUT,
        }
    }
}

impl Http2Limits {
    /// How often to ask a peer that is, or is not, on this machine.
    pub(crate) fn keepalive_for(&self, is_local: bool) -> Option<Duration> {
        match is_local {
            true => self.keepalive,
            false => self.keepalive_remote,
        }
    }
}

/// Limits of one HTTP/1.1 connection (RFC 9112).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Http1Limits {
    /// Bytes buffered for one request's head. Default 64 KiB.
    pub buffer_bytes_max: usize,
    /// Time to send one request's head; also how long an idle connection is kept. Default 30 s.
    pub head_time: Duration,
}

impl Default for Http1Limits {
    fn default() -> Self {
        Self {
            buffer_bytes_max: 64 * 1024,
            head_time: Duration::from_secs(30),
        }
    }
}

/// Limits of one connection that speaks the nigh wire (docs/wire/nigh.md). Values that the wire cannot say are
/// cut to the nearest it can (clause 2.3).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NighLimits {
    /// Calls in flight on one connection; more wait at the client. Default 256.
    pub concurrent_calls_max: u32,
    /// Bytes of one call's metadata, with 32 for each field. Default 16 KiB.
    pub header_bytes_max: u32,
    /// Bytes that one call may send ahead of its handler. Default 1 MiB.
    pub stream_window_bytes: u32,
    /// Bytes that one connection may send ahead of its handlers. Default 2 MiB.
    pub connection_window_bytes: u32,
    /// Bytes of one frame. Default 256 KiB: larger ones delay the other calls of the connection.
    pub frame_bytes_max: u32,
    /// Method paths remembered per connection, of up to 512 bytes. Default 1024.
    pub paths_max: u32,
    /// How often to ask a silent peer for a sign of life. Default never: the kernel reports the death
    /// of a local process at once.
    pub keepalive: Option<Duration>,
    /// How long to wait for that sign. Default 20 s.
    pub keepalive_timeout: Duration,
    /// Whether callers may move to shared memory. Default off; also set by
    /// [`Server::shared_memory`](crate::Server::shared_memory).
    pub shared_memory: SharedMemory,
    /// Whether a connection without a call looks for the next one for a moment before it sleeps. Default
    /// [`Spin::adaptive_on_socket`]; connections that carry descriptors never do.
    pub spin: Spin,
}

impl Default for NighLimits {
    fn default() -> Self {
        Self {
            concurrent_calls_max: 256,
            header_bytes_max: 16 * 1024,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 2 * 1024 * 1024,
            frame_bytes_max: 256 * 1024,
            paths_max: 1024,
            keepalive: None,
            keepalive_timeout: Duration::from_secs(20),
            shared_memory: SharedMemory::off(),
            spin: Spin::adaptive_on_socket(),
        }
    }
}
