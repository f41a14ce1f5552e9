//! The first bytes of each side: that this is the nigh wire, which version, and what it takes (clause 2).

use super::varint::Cursor;
use super::{Accepted, DESCRIPTORS_MAX, Violation};

/// Clause 2.2. No HTTP begins like that, and a line-based server sees an end of line.
pub(crate) const MAGIC: [u8; 8] = *b"\0nigh\r\n\x1a";

/// The newest version spoken here.
pub(crate) const VERSION: u16 = 1;

/// Clause 2.3: the greeting that is sent, and the least that is accepted.
pub(crate) const BYTES: usize = 40;

/// Clause 2.3: a longer one is refused; what is longer than [`BYTES`] is skipped.
pub(crate) const BYTES_MAX: u16 = 1024;

/// Clause 13.1: this many bytes when the greeting speaks of descriptors.
pub(crate) const BYTES_WITH_DESCRIPTORS: usize = 44;

/// Clause 13.1: descriptors travel with frames.
pub(crate) const DESCRIPTORS: u32 = 1;

/// Clause 14: the frames go through shared memory.
pub(crate) const SHARED_MEMORY: u32 = 2;

const WINDOW_MAX: u32 = i32::MAX.unsigned_abs();

/// What one side says of itself: its version and what it accepts from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: u16,
    /// Bits of clause 2.5.
    pub(crate) features: u32,
    pub(crate) frame_bytes_max: u32,
    pub(crate) header_bytes_max: u32,
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    /// Calls at once; 0 from a client.
    pub(crate) streams_max: u32,
    /// Paths remembered; 0 from a client.
    pub(crate) paths_max: u32,
    /// Descriptors taken in one frame; said only with [`DESCRIPTORS`]. 0: none, and some may be sent.
    pub(crate) descriptors_max: u16,
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let says_descriptors = self.features & DESCRIPTORS != 0;
        let length = if says_descriptors {
            BYTES_WITH_DESCRIPTORS
        } else {
            BYTES
        };
        let mut bytes = Vec::with_capacity(length);
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        for part in [
            MAGIC.as_slice(),
            &self.version.to_le_bytes(),
            &length.to_le_bytes(),
            &self.features.to_le_bytes(),
            &self.frame_bytes_max.to_le_bytes(),
            &self.header_bytes_max.to_le_bytes(),
            &self.stream_window.to_le_bytes(),
            &self.connection_window.to_le_bytes(),
            &self.streams_max.to_le_bytes(),
            &self.paths_max.to_le_bytes(),
        ] {
            bytes.extend_from_slice(part);
        }
        if says_descriptors {
            bytes.extend_from_slice(&self.descriptors_max.to_le_bytes());
            bytes.extend_from_slice(&[0; 2]);
        }
        bytes
    }

    /// The greeting at the start of `bytes` and its length; `None`: more is needed.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let head = bytes.get(..MAGIC.len()).unwrap_or(bytes);
        if !MAGIC.starts_with(head) {
            return Err(Violation::NoGreeting);
        }
        let mut cursor = Cursor(bytes.get(MAGIC.len()..).unwrap_or_default());
        if cursor.0.len() < 4 {
            return Ok(None);
        }
        let version = cursor.u16()?;
        let length = cursor.u16()?;
        if usize::from(length) < BYTES || length > BYTES_MAX {
            return Err(Violation::GreetingLength { length });
        }
        if bytes.len() < usize::from(length) {
            return Ok(None);
        }
        let features = cursor.u32()?;
        if features & DESCRIPTORS != 0 && usize::from(length) < BYTES_WITH_DESCRIPTORS {
            return Err(Violation::GreetingLength { length });
        }
        let mut greeting = Self {
            version,
            features,
            frame_bytes_max: cursor.u32()?,
            header_bytes_max: cursor.u32()?,
            stream_window: cursor.u32()?,
            connection_window: cursor.u32()?,
            streams_max: cursor.u32()?,
            paths_max: cursor.u32()?,
            descriptors_max: 0,
        };
        if features & DESCRIPTORS != 0 {
            greeting.descriptors_max = cursor.u16()?;
        }
        greeting.check()?;
        Ok(Some((greeting, usize::from(length))))
    }

    /// Clause 2.4.
    fn check(&self) -> Result<(), Violation> {
        let within = |limit, value: u32, range: std::ops::RangeInclusive<u32>| {
            if range.contains(&value) {
                Ok(())
            } else {
                Err(Violation::GreetingLimit { limit, value })
            }
        };
        within("version", self.version.into(), 1..=u16::MAX.into())?;
        within("frame bytes", self.frame_bytes_max, 1024..=1 << 24)?;
        within("header bytes", self.header_bytes_max, 1024..=1 << 20)?;
        within("stream window", self.stream_window, 1..=WINDOW_MAX)?;
        within("connection window", self.connection_window, 1..=WINDOW_MAX)?;
        within("calls", self.streams_max, 0..=1 << 16)?;
        let descriptors = self.descriptors_max.into();
        within("descriptors", descriptors, 0..=DESCRIPTORS_MAX.into())
    }

    /// Limits of this side as the wire can say them (clause 2.4).
    pub(crate) fn clamped(self) -> Self {
        Self {
            frame_bytes_max: self.frame_bytes_max.clamp(1024, 1 << 24),
            header_bytes_max: self.header_bytes_max.clamp(1024, 1 << 20),
            stream_window: self.stream_window.clamp(1, WINDOW_MAX),
            connection_window: self.connection_window.clamp(1, WINDOW_MAX),
            streams_max: self.streams_max.min(1 << 16),
            descriptors_max: self.descriptors_max.min(DESCRIPTORS_MAX),
            ..self
        }
    }

    pub(crate) fn accepted(&self) -> Accepted {
        let bytes = |value| usize::try_from(value).unwrap_or(usize::MAX);
        Accepted {
            frame_bytes_max: bytes(self.frame_bytes_max),
            header_bytes_max: bytes(self.header_bytes_max),
            descriptors: false,
        }
    }
}
