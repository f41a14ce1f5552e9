//! Finds the `:authority` fields of a header block, following the encoder's dynamic table. Trap: h2's table is not this one.
//!
//! h2 stores what we wrote, so its entries are as long as the encoder's or shorter. The invariant that keeps indices equal:
//! **newest first, the encoder's table is a prefix of h2's.** Inserting and resizing keep it: what the encoder has room for,
//! h2 has room for, because a replacement is never longer than the original. What h2 keeps beyond that is older than all
//! the encoder has, and an index never reaches it; so also when an authority was too long for the encoder's table and
//! emptied it, while h2 found room for the shorter one. Sizes here are those of the original.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use httlib_huffman::DecoderSpeed;

/// Size of the dynamic table in bytes, as HPACK counts: `SETTINGS_HEADER_TABLE_SIZE`, which the server leaves at its default.
pub(super) const TABLE_BYTES_MAX: usize = 4096;

/// What an entry costs beyond name and value (RFC 7541 §4.1).
const ENTRY_BYTES: usize = 32;

/// An integer in more bytes than this is refused by h2 (its `decode_int`).
const INTEGER_BYTES_MAX: u32 = 5;

const AUTHORITY: &[u8] = b":authority";
/// `:authority` in the static Huffman code. A string has exactly one encoding, so this one can be compared as it is.
const AUTHORITY_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// Shortest original that `localhost` replaces; nine characters need at least the six bytes that its Huffman form has.
const LOCALHOST_BYTES: usize = 9;
/// `localhost` in Huffman code, with its length before it.
const LOCALHOST: &[u8] = &[0x86, 0xa0, 0xe4, 0x1d, 0x13, 0x9d, 0x09];
/// The same of `x`, plain.
const X: &[u8] = &[0x01, b'x'];

/// The block cannot be decoded; h2 will say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Bytes of the block to take out, and what to put there: never more than was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) by: &'static [u8],
}

/// What was found out about the authority of one block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// In the order of the block.
    pub(super) edits: Vec<Edit>,
    /// An authority was empty. It stays refused.
    pub(super) empty: bool,
}

/// The dynamic table as the client's encoder has it. At most [`TABLE_BYTES_MAX`] / [`ENTRY_BYTES`] entries.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Name,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    bytes: usize,
    is_authority: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max: TABLE_BYTES_MAX,
        }
    }

    /// Reads one whole header block: follows its effect on the table and says what has to change in it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] leaves the table undefined: h2 ends such a connection.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Findings, Malformed> {
        let mut findings = Findings::default();
        let mut cursor = Cursor { block, at: 0 };
        while let Some(first) = cursor.peek() {
            match first {
                0x80.. => self.read_indexed(&mut cursor, &mut findings)?,
                0x40.. => self.read_literal(&mut cursor, Indexing::Incremental, &mut findings)?,
                0x20.. => {
                    let bytes_max = cursor.integer(5)?;
                    self.resize(bytes_max)?;
                }
                _ => self.read_literal(&mut cursor, Indexing::None, &mut findings)?,
            }
        }
        Ok(findings)
    }

    fn read_indexed(
        &self,
        cursor: &mut Cursor<'_>,
        findings: &mut Findings,
    ) -> Result<(), Malformed> {
        let index = cursor.integer(7)?;
        self.name(index)?;
        // An entry of the dynamic table was put right when it went in.
        findings.empty |= index == STATIC_AUTHORITY;
        Ok(())
    }

    fn read_literal(
        &mut self,
        cursor: &mut Cursor<'_>,
        indexing: Indexing,
        findings: &mut Findings,
    ) -> Result<(), Malformed> {
        let index = cursor.integer(indexing.prefix_bits())?;
        let name = if index == 0 {
            cursor.text()?.to_name(indexing)?
        } else {
            self.name(index)?
        };
        let value_at = cursor.at;
        let value = cursor.text()?;
        if indexing == Indexing::None && !name.is_authority {
            return Ok(());
        }

        let value = value.decode()?;
        if indexing == Indexing::Incremental {
            self.insert(name, value.len());
        }
        if !name.is_authority {
            return Ok(());
        }
        if value.is_empty() {
            findings.empty = true;
        } else if http::uri::Authority::try_from(value.as_ref()).is_err() {
            findings.edits.push(Edit {
                range: value_at..cursor.at,
                by: if value.len() >= LOCALHOST_BYTES {
                    LOCALHOST
                } else {
                    X
                },
            });
        }
        Ok(())
    }

    /// Adds an entry, evicting as many of the oldest as needed; one longer than the table only empties it (RFC 7541 §4.4).
    fn insert(&mut self, name: Name, value_bytes: usize) {
        let bytes = name.bytes + value_bytes + ENTRY_BYTES;
        self.evict_to(self.bytes_max.saturating_sub(bytes));
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front(Entry { name, bytes });
        }
    }

    fn resize(&mut self, bytes_max: usize) -> Result<(), Malformed> {
        if bytes_max > TABLE_BYTES_MAX {
            return Err(Malformed);
        }
        self.bytes_max = bytes_max;
        self.evict_to(bytes_max);
        Ok(())
    }

    fn evict_to(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some(oldest) = self.entries.pop_back()
        {
            self.bytes -= oldest.bytes;
        }
    }

    /// The name at `index`, static entries first, from 1.
    fn name(&self, index: usize) -> Result<Name, Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        match STATIC_NAMES.get(place) {
            Some(name) => Ok(Name {
                bytes: name.len(),
                is_authority: index == STATIC_AUTHORITY,
            }),
            None => {
                let entry = self.entries.get(place - STATIC_NAMES.len());
                Ok(entry.ok_or(Malformed)?.name)
            }
        }
    }
}

/// What a literal does to the table. Never-indexed literals do as little as those without indexing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexing {
    Incremental,
    None,
}

impl Indexing {
    fn prefix_bits(self) -> u32 {
        match self {
            Self::Incremental => 6,
            Self::None => 4,
        }
    }
}

/// A string of the block, still encoded.
#[derive(Debug, Clone, Copy)]
struct Text<'a> {
    raw: &'a [u8],
    huffman: bool,
}

impl<'a> Text<'a> {
    /// Decoded, it is at most 8/5 as long as its bytes: the shortest Huffman code has five bits.
    fn decode(self) -> Result<Cow<'a, [u8]>, Malformed> {
        if !self.huffman {
            return Ok(self.raw.into());
        }
        let mut text = Vec::new();
        httlib_huffman::decode(self.raw, &mut text, DecoderSpeed::FourBits)
            .map_err(|_| Malformed)?;
        Ok(text.into())
    }

    /// The length of a name matters only to the table, so one that is not stored is not decoded.
    fn to_name(self, indexing: Indexing) -> Result<Name, Malformed> {
        let authority = if self.huffman {
            AUTHORITY_HUFFMAN
        } else {
            AUTHORITY
        };
        Ok(Name {
            bytes: match indexing {
                Indexing::Incremental => self.decode()?.len(),
                Indexing::None => 0,
            },
            is_authority: self.raw == authority,
        })
    }
}

#[derive(Debug)]
struct Cursor<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// An integer whose first byte has `prefix_bits` bits of it (RFC 7541 §5.1). Cannot overflow: at most 28 bits follow.
    fn integer(&mut self, prefix_bits: u32) -> Result<usize, Malformed> {
        let mask = (1_usize << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for place in 0..INTEGER_BYTES_MAX - 1 {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn text(&mut self) -> Result<Text<'a>, Malformed> {
        let huffman = self.peek().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let end = self.at + length;
        let raw = self.block.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(Text { raw, huffman })
    }
}

/// Index of `:authority` in the static table; its value there is empty.
const STATIC_AUTHORITY: usize = 1;

/// The names of the static table (RFC 7541, appendix A), from index 1.
#[rustfmt::skip]
const STATIC_NAMES: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme",
    ":status", ":status", ":status", ":status", ":status", ":status", ":status",
    "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept",
    "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length",
    "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect",
    "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent",
    "vary", "via", "www-authenticate",
];
