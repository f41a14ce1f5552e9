//! The extension fields: their numbers, what they mean, and who may use them. drpc §9

/// Call and Response: the features that the sender offers, or grants.
pub(crate) const FEATURES: u32 = 1601;
/// Call: microseconds that the caller will wait from now on.
pub(crate) const DEADLINE: u32 = 1602;
/// Call: this is no call; the call of the same sequence need not go on.
pub(crate) const CANCEL: u32 = 1603;
/// Call and Response: descriptors that ride on the message's first packet.
pub(crate) const DESCRIPTORS: u32 = 1604;
/// Response: why the call failed, for people.
pub(crate) const TEXT: u32 = 1605;
/// Response: why the call failed, for programs.
pub(crate) const REASON: u32 = 1606;
/// Response, beside [`FEATURES`]: calls in flight that the server takes from this connection.
pub(crate) const WINDOW: u32 = 1607;

/// A set of extensions. drpc §9.2
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u64);

impl Features {
    /// No extension: what a DAOS peer understands.
    pub const NONE: Self = Self(0);
    /// Calls carry their deadline.
    pub const DEADLINE: Self = Self(1);
    /// Calls can be cancelled.
    pub const CANCEL: Self = Self(2);
    /// Responses carry why the call failed.
    pub const TEXT: Self = Self(4);
    /// Calls and responses carry descriptors.
    pub const DESCRIPTORS: Self = Self(8);
    /// Many calls in flight, answered in any order.
    pub const PIPELINING: Self = Self(16);
    /// Several messages in one packet. Chunked framing only.
    pub const ROWS: Self = Self(32);
    /// All extensions known here.
    pub const ALL: Self = Self(63);

    /// The set with these bits; unknown ones are kept.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set's bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// What both sets have.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The set without what `other` has.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why a call failed, beyond its status. drpc §9.5
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// 1: the deadline passed before the handler answered.
    Deadline,
    /// 2: the caller cancelled it.
    Cancelled,
    /// 3: the caller may not use this socket or method.
    Denied,
    /// 4: not now; the same call may well succeed a little later.
    Unavailable,
    /// 5: the handler panicked.
    Panicked,
    /// 6: descriptors of the call were lost on their way.
    DescriptorsLost,
    /// Any other number.
    Other(u64),
}

impl Reason {
    pub(crate) fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Deadline,
            2 => Self::Cancelled,
            3 => Self::Denied,
            4 => Self::Unavailable,
            5 => Self::Panicked,
            6 => Self::DescriptorsLost,
            other => Self::Other(other),
        }
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Deadline => 1,
            Self::Cancelled => 2,
            Self::Denied => 3,
            Self::Unavailable => 4,
            Self::Panicked => 5,
            Self::DescriptorsLost => 6,
            Self::Other(other) => other,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deadline => "deadline passed",
            Self::Cancelled => "cancelled",
            Self::Denied => "not permitted",
            Self::Unavailable => "unavailable, try again",
            Self::Panicked => "the handler panicked",
            Self::DescriptorsLost => "descriptors were lost",
            Self::Other(number) => return write!(f, "reason {number}"),
        })
    }
}
