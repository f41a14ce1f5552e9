//! A message in bytes whose body was not copied: what stands before it, the body itself, what stands behind it.

use bytes::Bytes;

/// An encoded message in three parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    parts: [Bytes; 3],
}

impl Encoded {
    pub(crate) fn new(before: Bytes, body: Bytes, behind: Bytes) -> Self {
        Self {
            parts: [before, body, behind],
        }
    }

    /// Bytes of the message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether it is the message without fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Bytes::is_empty)
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Bytes; 3] {
        &self.parts
    }

    /// All of it in one piece; copies the body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.parts {
            [one, rest @ ..] if rest.iter().all(Bytes::is_empty) => one.clone(),
            parts => parts.concat().into(),
        }
    }

    /// Takes the first `length` bytes off, or what there is.
    pub(crate) fn split_to(&mut self, length: usize) -> Self {
        let mut left = length;
        let mut front = Self::default();
        for (part, taken) in self.parts.iter_mut().zip(&mut front.parts) {
            *taken = part.split_to(part.len().min(left));
            left -= taken.len();
        }
        front
    }
}

impl From<Bytes> for Encoded {
    fn from(message: Bytes) -> Self {
        Self::new(message, Bytes::new(), Bytes::new())
    }
}
