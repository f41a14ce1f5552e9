//! The messages of a hand-over, as bytes: docs/restarts.md, "The protocol". Pure.
//!
//! One packet is one message: a kind, then fields of fixed width, little-endian, and texts behind their length.

use crate::address::Address;
use crate::listener::SocketKind;

/// The version spoken here. A process that offers another one is told so and goes without a hand-over.
pub(crate) const VERSION: u16 = 1;

/// What a conversation begins with, so that a stray connection is not taken for one.
const MAGIC: [u8; 8] = *b"nigh-ho\n";

/// Listeners in one hand-over, the control socket included: a bit each in [`Message::Ready`].
pub(crate) const LISTENERS_MAX: u16 = 64;

/// Bytes of one message: an address is the longest part of one.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a listener's name, as systemd has it for `FDNAME=`.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Bytes of a reason: it ends up in a log.
const REASON_BYTES_MAX: usize = 512;

/// Bytes of what a protocol has to remember of an idle connection.
pub(crate) const STATE_BYTES_MAX: usize = 1024;

/// Which file a path listener was published as, by the giver's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileClaim {
    /// As in `st_dev`.
    pub(crate) device: u64,
    /// As in `st_ino`.
    pub(crate) inode: u64,
}

/// What is said of a listener whose descriptor comes with it; all of it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Empty for a listener that was given none.
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) kind: SocketKind,
    /// `None`: the giver does not own a name for it, so neither will the taker.
    pub(crate) file: Option<FileClaim>,
    /// The socket over which the next hand-over is asked for.
    pub(crate) is_control: bool,
}

/// Why one side does not go on. The numbers are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The other side's user or process was not accepted.
    NotAdmitted,
    /// It speaks another version of the protocol.
    Version,
    /// A listener is not what was said of it.
    Listener,
    /// A step took too long.
    TooLate,
    /// The predecessor serves on, and the successor has to let go.
    TakenBack,
    /// The server is stopping.
    Stopping,
    /// Another reason.
    Other,
}

impl RefusalReason {
    const ALL: [Self; 7] = [
        Self::NotAdmitted,
        Self::Version,
        Self::Listener,
        Self::TooLate,
        Self::TakenBack,
        Self::Stopping,
        Self::Other,
    ];

    fn number(self) -> u8 {
        match self {
            Self::NotAdmitted => 1,
            Self::Version => 2,
            Self::Listener => 3,
            Self::TooLate => 4,
            Self::TakenBack => 5,
            Self::Stopping => 6,
            Self::Other => 7,
        }
    }

    fn of(number: u8) -> Self {
        let known = Self::ALL.into_iter();
        let mut known = known.filter(|reason| reason.number() == number);
        known.next().unwrap_or(Self::Other)
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAdmitted => "not admitted",
            Self::Version => "another version of the protocol",
            Self::Listener => "a listener is not what was said of it",
            Self::TooLate => "it took too long",
            Self::TakenBack => "the predecessor serves on",
            Self::Stopping => "the server is stopping",
            Self::Other => "refused",
        })
    }
}

/// One packet between predecessor and successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// Successor: who I am by version. §2
    Hello { version: u16 },
    /// Predecessor: so many listeners follow. §3
    Offer { listeners: u16 },
    /// Predecessor, with one descriptor. §3
    Listener { index: u16, claim: Box<Claim> },
    /// Successor: it came, and is what was said of it. §3
    Received { index: u16 },
    /// Successor: prepared; these it takes, one bit each. §4
    Ready { taken: u64 },
    /// Predecessor: accepts no more. §5
    Go,
    /// Successor: serves. §5
    Serving,
    /// Predecessor, with one descriptor: an idle connection. §6
    Connection {
        id: u32,
        listener: u16,
        state: Vec<u8>,
    },
    /// Successor: it is ours now. §6
    Moved { id: u32 },
    /// Successor: keep it. §6
    Kept { id: u32 },
    /// Successor: ends in order, do not resume. §7
    Left,
    /// Either: no further. §8
    Refused {
        reason: RefusalReason,
        detail: String,
    },
}

/// Bytes that are no message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedMessage {
    /// It ends within a field, or something follows the last one.
    #[error("a message of another length than its fields have")]
    Length,
    /// The kind has no meaning.
    #[error("a message of the unknown kind {0}")]
    Kind(u8),
    /// It does not begin as a hand-over does.
    #[error("not the beginning of a hand-over")]
    Magic,
    /// A text is longer than it may be, or not text.
    #[error("a text that is too long, or no text")]
    Text,
    /// An address that cannot be parsed.
    #[error("a malformed address")]
    Address,
    /// A socket type or flag without a meaning.
    #[error("a field with the meaningless value {0}")]
    Value(u8),
    /// More listeners than a hand-over may have.
    #[error("{0} listeners, more than a hand-over may have")]
    TooMany(u16),
}

impl Message {
    /// Its name, for errors.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "HELLO",
            Self::Offer { .. } => "OFFER",
            Self::Listener { .. } => "LISTENER",
            Self::Received { .. } => "RECEIVED",
            Self::Ready { .. } => "READY",
            Self::Go => "GO",
            Self::Serving => "SERVING",
            Self::Connection { .. } => "CONNECTION",
            Self::Moved { .. } => "MOVED",
            Self::Kept { .. } => "KEPT",
            Self::Left => "LEFT",
            Self::Refused { .. } => "REFUSED",
        }
    }

    /// How many descriptors come with it.
    pub(crate) fn descriptors(&self) -> usize {
        usize::from(matches!(
            self,
            Self::Listener { .. } | Self::Connection { .. }
        ))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(64);
        match self {
            Self::Hello { version } => {
                to.push(1);
                to.extend_from_slice(&MAGIC);
                to.extend_from_slice(&version.to_le_bytes());
            }
            Self::Offer { listeners } => {
                to.push(2);
                to.extend_from_slice(&VERSION.to_le_bytes());
                to.extend_from_slice(&listeners.to_le_bytes());
            }
            Self::Listener { index, claim } => {
                to.push(3);
                to.extend_from_slice(&index.to_le_bytes());
                claim.encode(&mut to);
            }
            Self::Received { index } => {
                to.push(4);
                to.extend_from_slice(&index.to_le_bytes());
            }
            Self::Ready { taken } => {
                to.push(5);
                to.extend_from_slice(&taken.to_le_bytes());
            }
            Self::Go => to.push(6),
            Self::Serving => to.push(7),
            Self::Connection {
                id,
                listener,
                state,
            } => {
                to.push(8);
                to.extend_from_slice(&id.to_le_bytes());
                to.extend_from_slice(&listener.to_le_bytes());
                put(&mut to, state, STATE_BYTES_MAX);
            }
            Self::Moved { id } => {
                to.push(9);
                to.extend_from_slice(&id.to_le_bytes());
            }
            Self::Kept { id } => {
                to.push(10);
                to.extend_from_slice(&id.to_le_bytes());
            }
            Self::Left => to.push(11),
            Self::Refused { reason, detail } => {
                to.extend_from_slice(&[12, reason.number()]);
                put(&mut to, detail.as_bytes(), REASON_BYTES_MAX);
            }
        }
        to
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MalformedMessage> {
        let mut from = Fields(bytes);
        let message = match from.u8()? {
            1 => {
                if from.array::<8>()? != MAGIC {
                    return Err(MalformedMessage::Magic);
                }
                let version = from.u16()?;
                // Another version may say more: what is behind is not looked at.
                from.0 = &[];
                Self::Hello { version }
            }
            2 => {
                let _version = from.u16()?;
                match from.u16()? {
                    listeners @ 1..=LISTENERS_MAX => Self::Offer { listeners },
                    other => return Err(MalformedMessage::TooMany(other)),
                }
            }
            3 => Self::Listener {
                index: from.u16()?,
                claim: Box::new(Claim::decode(&mut from)?),
            },
            4 => Self::Received { index: from.u16()? },
            5 => Self::Ready {
                taken: from.array().map(u64::from_le_bytes)?,
            },
            6 => Self::Go,
            7 => Self::Serving,
            8 => Self::Connection {
                id: from.u32()?,
                listener: from.u16()?,
                state: from.bytes(STATE_BYTES_MAX)?.to_vec(),
            },
            9 => Self::Moved { id: from.u32()? },
            10 => Self::Kept { id: from.u32()? },
            11 => Self::Left,
            12 => Self::Refused {
                reason: RefusalReason::of(from.u8()?),
                detail: from.text(REASON_BYTES_MAX)?,
            },
            other => return Err(MalformedMessage::Kind(other)),
        };
        match from.0 {
            [] => Ok(message),
            _ => Err(MalformedMessage::Length),
        }
    }
}

impl Claim {
    fn encode(&self, to: &mut Vec<u8>) {
        let file = self.file.unwrap_or(FileClaim {
            device: 0,
            inode: 0,
        });
        to.push(match self.kind {
            SocketKind::Stream => 1,
            SocketKind::Seqpacket => 2,
            SocketKind::Datagram => 3,
        });
        to.push(u8::from(self.is_control));
        to.push(u8::from(self.file.is_some()));
        to.extend_from_slice(&file.device.to_le_bytes());
        to.extend_from_slice(&file.inode.to_le_bytes());
        put(to, self.name.as_bytes(), NAME_BYTES_MAX);
        put(to, self.address.to_string().as_bytes(), MESSAGE_BYTES_MAX);
    }

    fn decode(from: &mut Fields<'_>) -> Result<Self, MalformedMessage> {
        let kind = match from.u8()? {
            1 => SocketKind::Stream,
            2 => SocketKind::Seqpacket,
            3 => SocketKind::Datagram,
            other => return Err(MalformedMessage::Value(other)),
        };
        let is_control = from.flag()?;
        let has_file = from.flag()?;
        let file = FileClaim {
            device: from.array().map(u64::from_le_bytes)?,
            inode: from.array().map(u64::from_le_bytes)?,
        };
        let name = from.text(NAME_BYTES_MAX)?;
        if !is_name(&name) {
            return Err(MalformedMessage::Text);
        }
        let address = from.text(MESSAGE_BYTES_MAX)?;
        Ok(Self {
            name,
            address: address.parse().map_err(|_| MalformedMessage::Address)?,
            kind,
            file: has_file.then_some(file),
            is_control,
        })
    }
}

/// Whether a listener may be called so: as systemd has it for `FDNAME=`, or not at all.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b':')
}

/// Bytes behind their length, cut off at `max`.
fn put(to: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let mut length = bytes.len().min(max).min(usize::from(u16::MAX));
    // Text stays text when it is cut.
    if let Ok(text) = std::str::from_utf8(bytes) {
        length = text.floor_char_boundary(length);
    }
    let bytes = bytes.get(..length).unwrap_or_default();
    to.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    to.extend_from_slice(bytes);
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], MalformedMessage> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(MalformedMessage::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedMessage> {
        self.take(N)?
            .try_into()
            .map_err(|_| MalformedMessage::Length)
    }

    fn u8(&mut self) -> Result<u8, MalformedMessage> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, MalformedMessage> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, MalformedMessage> {
        self.array().map(u32::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, MalformedMessage> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(MalformedMessage::Value(other)),
        }
    }

    fn bytes(&mut self, max: usize) -> Result<&'a [u8], MalformedMessage> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(MalformedMessage::Text);
        }
        self.take(length)
    }

    fn text(&mut self, max: usize) -> Result<String, MalformedMessage> {
        let bytes = self.bytes(max)?.to_vec();
        String::from_utf8(bytes).map_err(|_| MalformedMessage::Text)
    }
}

#[cfg(test)]
mod tests;
