//! The few protobuf rules that two small messages need, bounded and without recursion. drpc §5.4
//!
//! Trap: unknown fields may be groups, which nest. They are skipped with a stack of bounded depth.

use bytes::BufMut;

/// Groups in an unknown field that may stand inside each other.
pub const GROUP_DEPTH_MAX: usize = 32;

/// Why bytes are no message, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A value that its message cuts off.
    #[error("the message ends inside a value at byte {at}")]
    Truncated {
        /// Offset in the message.
        at: usize,
    },
    /// A number of more than 64 bits.
    #[error("a number of more than 64 bits at byte {at}")]
    Varint {
        /// Offset in the message.
        at: usize,
    },
    /// A field number outside 1 to 2^29 - 1.
    #[error("field number {number} at byte {at}")]
    FieldNumber {
        /// The number.
        number: u64,
        /// Offset in the message.
        at: usize,
    },
    /// A wire type that does not exist, or not the one of this field.
    #[error("field {number} with wire type {wire_type} at byte {at}")]
    WireType {
        /// The field's number.
        number: u32,
        /// The wire type, 0 to 7.
        wire_type: u8,
        /// Offset in the message.
        at: usize,
    },
    /// The end of a group that did not begin, or groups nested too deep.
    #[error("groups nested wrongly or deeper than {GROUP_DEPTH_MAX} at byte {at}")]
    Group {
        /// Offset in the message.
        at: usize,
    },
}

pub(crate) const VARINT: u8 = 0;
const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// A field's value, as far as anybody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    /// The bytes and their offset in the message.
    Bytes(&'a [u8], usize),
    /// Of another wire type; skipped.
    Other(u8),
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
    /// Where the field begins.
    pub(crate) at: usize,
    /// All of it, with its key.
    pub(crate) raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The number that this field must be.
    pub(crate) fn varint(&self) -> Result<u64, Malformed> {
        match self.value {
            Value::Varint(value) => Ok(value),
            Value::Bytes(..) => Err(self.mistyped(BYTES)),
            Value::Other(wire_type) => Err(self.mistyped(wire_type)),
        }
    }

    /// The bytes that this field must be, and their offset.
    pub(crate) fn bytes(&self) -> Result<(&'a [u8], usize), Malformed> {
        match self.value {
            Value::Bytes(bytes, at) => Ok((bytes, at)),
            Value::Varint(_) => Err(self.mistyped(VARINT)),
            Value::Other(wire_type) => Err(self.mistyped(wire_type)),
        }
    }

    fn mistyped(&self, wire_type: u8) -> Malformed {
        Malformed::WireType {
            number: self.number,
            wire_type,
            at: self.at,
        }
    }
}

/// The fields of a message, in the order in which they stand.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    message: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self {
            message,
            rest: message,
        }
    }

    /// The next field; `None` at the end of the message.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (start, at) = (self.rest, self.at());
        let (number, wire_type) = self.key()?;
        let value = match wire_type {
            VARINT => Value::Varint(self.varint()?),
            BYTES => {
                let bytes = self.length_delimited()?;
                Value::Bytes(bytes, self.at() - bytes.len())
            }
            GROUP => {
                self.skip_group(number)?;
                Value::Other(GROUP)
            }
            GROUP_END => return Err(Malformed::Group { at }),
            other => {
                self.skip_fixed(number, other, at)?;
                Value::Other(other)
            }
        };
        let (raw, _) = start
            .split_at_checked(start.len() - self.rest.len())
            .ok_or(Malformed::Truncated { at })?;
        Ok(Some(Field {
            number,
            value,
            at,
            raw,
        }))
    }

    fn at(&self) -> usize {
        self.message.len() - self.rest.len()
    }

    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let at = self.at();
        let key = self.varint()?;
        let number = key >> 3;
        match u32::try_from(number) {
            Ok(short) if (1..1 << 29).contains(&short) => Ok((short, (key & 7) as u8)),
            _ => Err(Malformed::FieldNumber { number, at }),
        }
    }

    /// A number in 7-bit groups, low ones first; more groups than needed are fine, more than ten are not.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let at = self.at();
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated { at })?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::Varint { at });
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint { at })
    }

    fn length_delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let at = self.at();
        let length = self.varint()?;
        usize::try_from(length)
            .ok()
            .and_then(|length| self.take(length))
            .ok_or(Malformed::Truncated { at })
    }

    fn skip_fixed(&mut self, number: u32, wire_type: u8, at: usize) -> Result<(), Malformed> {
        let length = match wire_type {
            FIXED64 => 8,
            FIXED32 => 4,
            _ => {
                return Err(Malformed::WireType {
                    number,
                    wire_type,
                    at,
                });
            }
        };
        self.take(length)
            .map(drop)
            .ok_or(Malformed::Truncated { at })
    }

    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let at = self.at();
            let (number, wire_type) = self.key()?;
            match wire_type {
                VARINT => drop(self.varint()?),
                BYTES => drop(self.length_delimited()?),
                GROUP if open.len() < GROUP_DEPTH_MAX => open.push(number),
                GROUP_END if number == innermost => drop(open.pop()),
                GROUP | GROUP_END => return Err(Malformed::Group { at }),
                other => self.skip_fixed(number, other, at)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

/// Writes a number in as few groups as it needs.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8((value & 0x7f) as u8);
}

/// Writes a numeric field, unless it is zero. drpc §5.3
pub(crate) fn put_number(out: &mut impl BufMut, field: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(field) << 3 | u64::from(VARINT));
        put_varint(out, value);
    }
}

/// Writes a bytes field, unless it is empty. drpc §5.3
pub(crate) fn put_bytes(out: &mut impl BufMut, field: u32, value: &[u8]) {
    put_prefix(out, field, value);
    out.put_slice(value);
}

/// Writes what stands before a bytes field's value, unless that is empty.
pub(crate) fn put_prefix(out: &mut impl BufMut, field: u32, value: &[u8]) {
    if !value.is_empty() {
        put_varint(out, u64::from(field) << 3 | u64::from(BYTES));
        put_varint(out, value.len() as u64);
    }
}
