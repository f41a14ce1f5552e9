//! Numbers of one to five bytes (clause 7.1), and the cursor that reads them.

use bytes::{BufMut as _, BytesMut};

use super::Violation;

pub(crate) fn put(out: &mut BytesMut, mut number: u32) {
    while number >= 0x80 {
        out.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.put_u8(number.to_le_bytes()[0]);
}

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

/// What is left of a frame's content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Violation> {
        let (first, rest) = self.0.split_first().ok_or(Violation::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Violation::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        match self.take(2)? {
            [a, b] => Ok(u16::from_le_bytes([*a, *b])),
            _ => Err(Violation::Truncated),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        match self.take(4)? {
            [a, b, c, d] => Ok(u32::from_le_bytes([*a, *b, *c, *d])),
            _ => Err(Violation::Truncated),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u32, Violation> {
        let mut number = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(Violation::Varint);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Violation::Varint)
    }

    /// Bytes behind their own length; the length is believed only as far as bytes are there.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
}
