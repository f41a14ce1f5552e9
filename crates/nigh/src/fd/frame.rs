//! The extension frames two nigh ends exchange over HTTP/2 (RFC 9113 §5.5): written out, and read with suspicion.
//!
//! Numbers in brackets, here and in the rest of `fd/`, are clauses of docs/wire/descriptors.md.
//! Any other peer ignores them (§4.1). Until a HELLO has come, a frame of this type is somebody else's and means nothing.

/// Length of every HTTP/2 frame head (RFC 9113 §4.1).
pub(super) const HEAD_BYTES: usize = 9;

/// The frame type: in the range nobody has registered, on stream 0, without flags [2.1].
pub(super) const TYPE: u8 = 0xfd;

/// Bytes of payload that are looked at; a longer frame of this type is not ours [2.2].
pub(super) const PAYLOAD_BYTES_MAX: usize = 64;

const MAGIC: &[u8; 4] = b"nigh";
const VERSION: u8 = 1;
const HELLO: u8 = 1;
const FDS: u8 = 2;
const DONE: u8 = 3;
const ACCEPTS: u8 = 1;

/// The PING that follows a client's HELLO: who answers it without a HELLO of its own is not nigh [3.1, 3.3].
pub(super) const PING: [u8; 17] = *b"\x00\x00\x08\x06\x00\x00\x00\x00\x00nigh-fds";
/// The answer to it.
pub(super) const PONG: [u8; 17] = *b"\x00\x00\x08\x06\x01\x00\x00\x00\x00nigh-fds";

/// What one end tells the other about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Whether descriptors may be sent to this end at all.
    pub(crate) accepts: bool,
    /// Descriptors that this end takes in one frame.
    pub(crate) per_message: u16,
    /// Calls with descriptors that may be on their way to this end at once.
    pub(crate) calls: u32,
}

/// Descriptors of one call, carried by the bytes of this frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fds {
    /// The client's number of the call.
    pub(super) call: u64,
    /// Index of the first one; the others follow.
    pub(super) first: u32,
    pub(super) count: u16,
    /// Why the sender could not send them, as [`Loss::code`](super::error::Loss::code); 0: they are here.
    pub(super) loss: u8,
}

/// One extension frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    Hello(Hello),
    Fds(Fds),
    /// The client sends nothing more for this call; what nobody asked for can go.
    Done(u64),
    /// A kind of a later version: ignored.
    Unknown,
}

/// What no honest peer sends: the connection ends [1.3, 2.3].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a malformed descriptor frame of kind {kind}, {length} bytes long")]
    Frame { kind: u8, length: usize },
    #[error("descriptors for more calls than were allowed at once")]
    TooManyCalls,
}

impl Frame {
    /// Head and payload, as they go out.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, TYPE, 0, 0, 0, 0, 0];
        match self {
            Self::Hello(hello) => {
                bytes.push(HELLO);
                bytes.extend_from_slice(MAGIC);
                bytes.push(VERSION);
                bytes.push(if hello.accepts { ACCEPTS } else { 0 });
                bytes.extend_from_slice(&hello.per_message.to_be_bytes());
                bytes.extend_from_slice(&hello.calls.to_be_bytes());
            }
            Self::Fds(fds) => {
                bytes.push(FDS);
                bytes.push(fds.loss);
                bytes.extend_from_slice(&fds.count.to_be_bytes());
                bytes.extend_from_slice(&fds.first.to_be_bytes());
                bytes.extend_from_slice(&fds.call.to_be_bytes());
            }
            Self::Done(call) => {
                bytes.push(DONE);
                bytes.extend_from_slice(&call.to_be_bytes());
            }
            Self::Unknown => bytes.push(u8::MAX),
        }
        let length = bytes.len() - HEAD_BYTES;
        if let Some(low) = bytes.get_mut(2) {
            *low = u8::try_from(length).unwrap_or(u8::MAX);
        }
        bytes
    }

    /// Reads a whole payload.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let malformed = |kind| Malformed::Frame {
            kind,
            length: payload.len(),
        };
        let (kind, rest) = payload.split_first().ok_or(malformed(0))?;
        let parsed = match *kind {
            HELLO => hello(rest),
            FDS => fds(rest),
            DONE => rest
                .first_chunk()
                .map(|call| Self::Done(u64::from_be_bytes(*call))),
            _ => Some(Self::Unknown),
        };
        parsed.ok_or(malformed(*kind))
    }
}

fn hello(rest: &[u8]) -> Option<Frame> {
    let rest = rest.strip_prefix(MAGIC)?;
    let [version, flags, m0, m1, c0, c1, c2, c3, ..] = *rest else {
        return None;
    };
    if version == 0 {
        return None;
    }
    Some(Frame::Hello(Hello {
        accepts: flags & ACCEPTS != 0,
        per_message: u16::from_be_bytes([m0, m1]),
        calls: u32::from_be_bytes([c0, c1, c2, c3]),
    }))
}

fn fds(rest: &[u8]) -> Option<Frame> {
    let (loss, rest) = rest.split_first()?;
    let (count, rest) = rest.split_first_chunk()?;
    let (first, rest) = rest.split_first_chunk()?;
    let count = u16::from_be_bytes(*count);
    let first = u32::from_be_bytes(*first);
    first.checked_add(u32::from(count))?;
    Some(Frame::Fds(Fds {
        call: u64::from_be_bytes(*rest.first_chunk()?),
        first,
        count,
        loss: *loss,
    }))
    .filter(|_| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Frame> {
        prop_oneof![
            (any::<bool>(), any::<u16>(), any::<u32>()).prop_map(
                |(accepts, per_message, calls)| Frame::Hello(Hello {
                    accepts,
                    per_message,
                    calls
                })
            ),
            (any::<u64>(), 0..u32::MAX - 70_000, 1..u16::MAX, any::<u8>()).prop_map(
                |(call, first, count, loss)| Frame::Fds(Fds {
                    call,
                    first,
                    count,
                    loss
                })
            ),
            any::<u64>().prop_map(Frame::Done),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frame in frames()) {
            let bytes = frame.encode();
            prop_assert_eq!(usize::from(bytes[2]), bytes.len() - HEAD_BYTES);
            prop_assert!(bytes.len() - HEAD_BYTES <= PAYLOAD_BYTES_MAX);
            prop_assert_eq!(Frame::parse(&bytes[HEAD_BYTES..]), Ok(frame));
        }

        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Frame::parse(&payload);
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let fds = Frame::Fds(Fds {
            call: 7,
            first: 2,
            count: 3,
            loss: 0,
        });
        assert_eq!(
            fds.encode(),
            [
                0, 0, 16, 0xfd, 0, 0, 0, 0, 0, 2, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7
            ]
        );
        assert_eq!(
            Frame::Done(1).encode(),
            [0, 0, 9, 0xfd, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1]
        );
    }

    #[test]
    fn a_short_or_overflowing_frame_is_malformed_and_a_later_kind_is_not() {
        assert!(Frame::parse(&[]).is_err());
        assert!(Frame::parse(b"\x01nigh\x01").is_err());
        assert!(Frame::parse(b"\x01else\x01\x01\0\0\0\0\0\0").is_err());
        assert!(Frame::parse(&[3, 0, 0]).is_err());
        assert!(Frame::parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]).is_err());
        assert!(Frame::parse(&[2, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 7]).is_err());
        assert_eq!(Frame::parse(&[9]), Ok(Frame::Unknown));
    }
}
