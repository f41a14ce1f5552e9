//! A message in bytes whose body was not copied: what stands before it, the body itself, what stands behind it.

use bytes::{BufMut, Bytes};

/// Bytes that stand before a body at most: three numbers and the body's length, each of ten bytes behind a key of one.
const HEAD_BYTES: usize = 44;

/// An encoded message in three parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    head: Head,
    body: Bytes,
    tail: Bytes,
}

/// What stands before the body, in place: most messages then need no memory of their own.
#[derive(Clone)]
struct Head {
    bytes: [u8; HEAD_BYTES],
    from: usize,
    to: usize,
}

impl Head {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }
}

impl Default for Head {
    fn default() -> Self {
        Self {
            bytes: [0; HEAD_BYTES],
            from: 0,
            to: 0,
        }
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Head {}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().fmt(f)
    }
}

impl Encoded {
    /// `put` writes what stands before the body, at most [`HEAD_BYTES`].
    pub(crate) fn new(put: impl FnOnce(&mut &mut [u8]), body: Bytes, tail: Bytes) -> Self {
        let mut head = Head::default();
        let mut room = &mut head.bytes[..];
        put(&mut room);
        head.to = HEAD_BYTES - room.len();
        Self { head, body, tail }
    }

    /// Bytes of the message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Whether it is the message without fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 3] {
        [self.head.bytes(), &self.body, &self.tail]
    }

    /// All of it in one piece; copies the body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.parts() {
            [[], _, []] => self.body.clone(),
            parts => parts.concat().into(),
        }
    }

    /// Writes all of it.
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        for part in self.parts() {
            out.put_slice(part);
        }
    }

    /// Takes the first `length` bytes off, or what there is.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        let mut front = Self {
            head: self.head.clone(),
            ..Self::default()
        };
        let taken = self.head.bytes().len().min(length);
        front.head.to = front.head.from + taken;
        self.head.from += taken;
        let mut left = length - taken;
        for (part, front) in [
            (&mut self.body, &mut front.body),
            (&mut self.tail, &mut front.tail),
        ] {
            *front = part.split_to(part.len().min(left));
            left -= front.len();
        }
        front
    }
}

impl From<Bytes> for Encoded {
    fn from(message: Bytes) -> Self {
        Self {
            body: message,
            ..Self::default()
        }
    }
}
