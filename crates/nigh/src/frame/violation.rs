//! What a peer can do wrong on the nigh wire; each ends the connection (docs/wire/nigh.md, clause 11).

use super::Kind;

/// A rule of the wire that the peer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("what came is no greeting")]
    NoGreeting,
    #[error("a greeting of {length} bytes")]
    GreetingLength { length: u16 },
    #[error("version {answered} in answer to version {offered}")]
    Version { offered: u16, answered: u16 },
    #[error("a greeting with {limit} of {value}")]
    GreetingLimit { limit: &'static str, value: u32 },
    #[error("bytes or descriptors beside the shared memory that was agreed on")]
    SharedMemory,
    #[error("a frame of unknown kind {code}")]
    FrameKind { code: u8 },
    #[error("a {kind:?} frame of {length} bytes, the limit is {max}")]
    FrameLength {
        kind: Kind,
        length: usize,
        max: usize,
    },
    #[error("a {kind:?} frame with flags {flags:#04x}")]
    Flags { kind: Kind, flags: u8 },
    #[error("a {kind:?} frame with {count} descriptors")]
    Descriptors { kind: Kind, count: u16 },
    #[error("{count} descriptors from index {first}, which is too large")]
    DescriptorIndex { first: u32, count: u16 },
    #[error("a {kind:?} frame on stream {stream}")]
    Place { kind: Kind, stream: u32 },
    #[error("a {kind:?} frame from this side")]
    Direction { kind: Kind },
    #[error("a number that does not end or fit 32 bits")]
    Varint,
    #[error("a frame that ends inside a value")]
    Truncated,
    #[error("a field name that is none")]
    FieldName,
    #[error("a field value that is none")]
    FieldValue,
    #[error("fields of more than {max} bytes")]
    FieldsSize { max: usize },
    #[error("path number {number}, {known} are known")]
    PathNumber { number: u32, known: usize },
    #[error("a path that is none")]
    Path,
    #[error("a method that is none")]
    Method,
    #[error("an HTTP status that is none")]
    HttpStatus,
    #[error("a call on stream {stream}, which is in use")]
    StreamInUse { stream: u32 },
    #[error("a call on stream {stream}, the limit is {max} calls")]
    StreamNumber { stream: u32, max: usize },
    #[error("a {kind:?} frame after the last one on stream {stream}")]
    AfterEnd { kind: Kind, stream: u32 },
    #[error("a {kind:?} frame before the headers of stream {stream}")]
    BeforeHeaders { kind: Kind, stream: u32 },
    #[error("more data on stream {stream} than it had credit for")]
    StreamCredit { stream: u32 },
    #[error("more data than the connection had credit for")]
    ConnectionCredit,
    #[error("credit beyond 2^31-1 on stream {stream}")]
    CreditOverflow { stream: u32 },
    #[error("more than {max} pings ahead of their answers")]
    PingFlood { max: usize },
}
