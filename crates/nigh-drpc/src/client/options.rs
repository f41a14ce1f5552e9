//! How a client connects and what it allows.

use std::time::Duration;

use nigh_socket::ConnectOptions;

use crate::limits::Limits;
use crate::wire::{Features, Framing};

/// Which framing a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Always the same. The default is [`Framing::Chunked`].
    Only(Framing),
    /// What the server speaks: a small call of a module that nobody has goes ahead on each new connection, and costs a
    /// line in a DAOS server's log. drpc §4.5
    Probe,
}

/// How a client connects and what it allows.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientOptions {
    connect: ConnectOptions,
    connect_time: Duration,
    pub(crate) limits: Limits,
    pub(crate) speaks: Speaks,
    pub(crate) features: Features,
    pub(crate) pause_min: Duration,
    pub(crate) pause_max: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            connect_time: Duration::from_secs(5),
            limits: Limits::default(),
            speaks: Speaks::Only(Framing::Chunked),
            features: Features::ALL,
            pause_min: Duration::from_millis(1),
            pause_max: Duration::from_secs(1),
        }
    }
}

impl ClientOptions {
    /// How to connect: whether to wait for a server that is not there yet, and who the server must be. Its timeout is
    /// replaced by [`connect_time`](Self::connect_time).
    pub fn connect(mut self, connect: ConnectOptions) -> Self {
        self.connect = connect;
        self
    }

    /// Time to connect in. A call's deadline applies as well. Default 5 s.
    pub fn connect_time(mut self, time: Duration) -> Self {
        self.connect_time = time;
        self
    }

    /// How to connect, when at most `left` is left.
    pub(crate) fn connecting(&self, left: Option<Duration>) -> ConnectOptions {
        let time = left.map_or(self.connect_time, |left| left.min(self.connect_time));
        self.connect.clone().timeout(time)
    }

    /// Message sizes and times. Numbers of calls are the server's to limit.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which framing to speak. Default: chunked.
    pub fn speaks(mut self, speaks: Speaks) -> Self {
        self.speaks = speaks;
        self
    }

    /// Which extensions to offer. Default: all; a DAOS server ignores the offer.
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// The pauses before connecting again to a server whose connection broke before it answered anything: from `min`,
    /// doubled each time, to `max`. Default 1 ms to 1 s.
    pub fn pauses(mut self, min: Duration, max: Duration) -> Self {
        self.pause_min = min;
        self.pause_max = max.max(min);
        self
    }
}

/// The pauses between connections that came to nothing.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Option<Duration>,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { next: None }
    }

    /// How long to wait before the next connection.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.next
    }

    /// The last connection answered something, or nothing.
    pub(crate) fn note(&mut self, has_answered: bool, options: &ClientOptions) {
        self.next = match self.next {
            _ if has_answered => None,
            None => Some(options.pause_min),
            Some(pause) => Some((pause * 2).min(options.pause_max)),
        };
    }
}
