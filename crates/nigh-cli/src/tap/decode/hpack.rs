//! HPACK (RFC 7541): header blocks to names and values, with the encoder's dynamic table. Pure.

use std::collections::VecDeque;

use httlib_huffman::DecoderSpeed;

/// Most bytes of a dynamic table, as HPACK counts.
const TABLE_BYTES_MAX: usize = 64 << 10;
/// What an entry costs beyond name and value (RFC 7541 §4.1).
const ENTRY_BYTES: usize = 32;
/// Bytes of all names and values of one block: indices make much of little.
const BLOCK_BYTES_MAX: usize = 256 << 10;

/// A name and a value.
pub(super) type Header = (Vec<u8>, Vec<u8>);

/// A block that cannot be decoded, and with it none after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One direction's dynamic table.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Header>,
    bytes: usize,
    bytes_max: usize,
    lost: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max: 4096,
            lost: false,
        }
    }

    /// A block was missed: what the table holds is not known from here on.
    pub(super) fn lose(&mut self) {
        *self = Self::new();
        self.lost = true;
    }

    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Vec<Header>, Malformed> {
        if self.lost {
            return Err(Malformed);
        }
        let headers = self.read(block);
        if headers.is_err() {
            self.lose();
        }
        headers
    }

    fn read(&mut self, block: &[u8]) -> Result<Vec<Header>, Malformed> {
        let mut headers = Vec::new();
        let mut left = BLOCK_BYTES_MAX;
        let mut cursor = Cursor(block);
        while let Some(&first) = cursor.0.first() {
            let header = match first {
                0x80.. => self.entry(cursor.integer(7)?)?,
                0x40.. => {
                    let header = self.literal(&mut cursor, 6)?;
                    self.insert(header.clone());
                    header
                }
                0x20.. => {
                    self.resize(cursor.integer(5)?)?;
                    continue;
                }
                _ => self.literal(&mut cursor, 4)?,
            };
            left = left.checked_sub(size(&header)).ok_or(Malformed)?;
            headers.push(header);
        }
        Ok(headers)
    }

    fn literal(&self, cursor: &mut Cursor<'_>, bits: u32) -> Result<Header, Malformed> {
        let name = match cursor.integer(bits)? {
            0 => cursor.text()?,
            index => self.entry(index)?.0,
        };
        Ok((name, cursor.text()?))
    }

    /// The entry at `index`, static ones first, from 1.
    fn entry(&self, index: usize) -> Result<Header, Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        let entry = self.entries.get(place - STATIC.len());
        entry.cloned().ok_or(Malformed)
    }

    fn insert(&mut self, header: Header) {
        let bytes = size(&header);
        self.evict_to(self.bytes_max.saturating_sub(bytes));
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front(header);
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
            self.bytes -= size(&oldest);
        }
    }
}

fn size(header: &Header) -> usize {
    header.0.len() + header.1.len() + ENTRY_BYTES
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer whose first byte has `bits` bits of it (RFC 7541 §5.1), of 28 bits more at most.
    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let mask = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for place in 0..4 {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn text(&mut self) -> Result<Vec<u8>, Malformed> {
        let huffman = self.0.first().ok_or(Malformed)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (raw, rest): (&'a [u8], &'a [u8]) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        if !huffman {
            return Ok(raw.to_vec());
        }
        let mut decoded = Vec::new();
        httlib_huffman::decode(raw, &mut decoded, DecoderSpeed::FourBits).map_err(|_| Malformed)?;
        Ok(decoded)
    }
}

/// The static table (RFC 7541, appendix A), from index 1.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""),
    ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];
