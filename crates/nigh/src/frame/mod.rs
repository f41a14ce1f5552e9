//! The nigh wire's frames as bytes (docs/wire/nigh.md): no socket, no runtime, no clock.
//!
//! Trap: a length is compared with its limit before anything is waited for or reserved.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod fields;
pub(crate) mod greeting;
pub(crate) mod head;
#[cfg(test)]
mod tests;
pub(crate) mod varint;
mod violation;

pub(crate) use decode::Decoder;
pub(crate) use encode::Out;
pub(crate) use greeting::Greeting;
pub(crate) use violation::Violation;

/// Clause 3.1: length, stream, kind, flags, descriptors.
pub(crate) const HEADER_BYTES: usize = 12;

/// Clause 3.5: the last frame of this direction of a call.
pub(crate) const END: u8 = 0x01;
/// Clause 5.2: nothing is implied, method or HTTP status are spelled out.
pub(crate) const PLAIN: u8 = 0x02;

/// Clause 13.3: index of the first, loss.
pub(crate) const FDS_BYTES: usize = 5;

/// Clause 13.3: what the kernel takes in one message.
pub(crate) const DESCRIPTORS_MAX: u16 = 253;

/// Clause 9.3: a cancellation's or a goodbye's text is cut off here.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// Clause 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Headers,
    Data,
    Trailers,
    Cancel,
    Window,
    GoAway,
    Ping,
    Pong,
    /// No handler sees the call (clause 9.4).
    Unseen,
    /// Descriptors that travel with this frame, and with no other kind.
    Fds,
    /// 128 and above: skipped by who does not know it (clause 3.4).
    Ignorable(u8),
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Headers => 1,
            Self::Data => 2,
            Self::Trailers => 3,
            Self::Cancel => 4,
            Self::Window => 5,
            Self::GoAway => 6,
            Self::Ping => 7,
            Self::Pong => 8,
            Self::Unseen => 128,
            Self::Fds => 9,
            Self::Ignorable(code) => code,
        }
    }

    fn of(code: u8) -> Result<Self, Violation> {
        Ok(match code {
            1 => Self::Headers,
            2 => Self::Data,
            3 => Self::Trailers,
            4 => Self::Cancel,
            5 => Self::Window,
            6 => Self::GoAway,
            7 => Self::Ping,
            8 => Self::Pong,
            9 => Self::Fds,
            128 => Self::Unseen,
            129.. => Self::Ignorable(code),
            code => return Err(Violation::FrameKind { code }),
        })
    }

    /// The flags that may be set.
    fn flags(self) -> u8 {
        match self {
            Self::Headers => END | PLAIN,
            Self::Data => END,
            Self::Ignorable(_) => 0xff,
            _ => 0,
        }
    }

    /// Whether it concerns the connection, a call, or (`None`) either.
    fn is_of_connection(self) -> Option<bool> {
        match self {
            Self::Headers
            | Self::Data
            | Self::Trailers
            | Self::Cancel
            | Self::Fds
            | Self::Unseen => Some(false),
            Self::GoAway | Self::Ping | Self::Pong => Some(true),
            Self::Window | Self::Ignorable(_) => None,
        }
    }
}

/// A frame's first 12 bytes, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) stream: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// How many descriptors came with it; 0 for every kind but FDS.
    pub(crate) descriptors: u16,
}

impl Header {
    pub(crate) fn is_last(&self) -> bool {
        self.flags & END != 0 || self.kind == Kind::Trailers
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.flags & PLAIN != 0
    }

    fn write(self) -> [u8; HEADER_BYTES] {
        let [l0, l1, l2, l3] = u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes();
        let [s0, s1, s2, s3] = self.stream.to_le_bytes();
        let [d0, d1] = self.descriptors.to_le_bytes();
        [
            l0,
            l1,
            l2,
            l3,
            s0,
            s1,
            s2,
            s3,
            self.kind.code(),
            self.flags,
            d0,
            d1,
        ]
    }
}

/// What the receiving side of a connection takes: its own greeting said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) frame_bytes_max: usize,
    pub(crate) header_bytes_max: usize,
    /// Whether both greetings agreed on descriptors (clause 13.1).
    pub(crate) descriptors: bool,
}
