//! Control messages as bytes: what travels beside the data of a socket message, parsed and written in safe code.
//!
//! Trap: a length is what its writer says. It is compared with the bytes that are there before it is used.

/// The kernel's `size_t`, and the alignment of every control message.
const ALIGN: usize = size_of::<usize>();

/// `struct cmsghdr`: the length, then level and kind. Its size is a multiple of [`ALIGN`] everywhere.
const HEADER_BYTES: usize = ALIGN + 8;

/// One control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control<'a> {
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) data: &'a [u8],
}

/// Bytes that are no control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a control message with so much data takes in a buffer, with its padding (`CMSG_SPACE`).
pub(crate) const fn space(data: usize) -> usize {
    HEADER_BYTES + data.next_multiple_of(ALIGN)
}

/// The control messages in `bytes`, up to the first malformed one.
pub(crate) fn parse(bytes: &[u8]) -> Parse<'_> {
    Parse { rest: bytes }
}

/// Iterator of [`parse`].
#[derive(Debug, Clone)]
pub(crate) struct Parse<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parse<'a> {
    type Item = Result<Control<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let next = first(self.rest);
        self.rest = match next {
            Ok((_, rest)) => rest,
            Err(Malformed) => &[],
        };
        Some(next.map(|(control, _)| control))
    }
}

fn first(bytes: &[u8]) -> Result<(Control<'_>, &[u8]), Malformed> {
    let (length, fields) = bytes.split_first_chunk().ok_or(Malformed)?;
    let (level, fields) = fields.split_first_chunk().ok_or(Malformed)?;
    let (kind, data) = fields.split_first_chunk().ok_or(Malformed)?;
    let length = usize::from_ne_bytes(*length)
        .checked_sub(HEADER_BYTES)
        .ok_or(Malformed)?;
    let control = Control {
        level: i32::from_ne_bytes(*level),
        kind: i32::from_ne_bytes(*kind),
        data: data.get(..length).ok_or(Malformed)?,
    };
    // The last one may lack its padding.
    let rest = data.get(length.next_multiple_of(ALIGN)..);
    Ok((control, rest.unwrap_or_default()))
}

/// Writes one control message with 32-bit numbers as data to the front of `into`; returns the bytes it takes there,
/// or `None` when there is no room.
pub(crate) fn write_numbers(
    into: &mut [u8],
    level: i32,
    kind: i32,
    numbers: impl ExactSizeIterator<Item = i32>,
) -> Option<usize> {
    let data = numbers.len().checked_mul(4)?;
    let total = space(data);
    let into = into.get_mut(..total)?;
    into.fill(0);
    let (length, fields) = into.split_first_chunk_mut()?;
    *length = (HEADER_BYTES + data).to_ne_bytes();
    let (to_level, fields) = fields.split_first_chunk_mut()?;
    *to_level = level.to_ne_bytes();
    let (to_kind, fields) = fields.split_first_chunk_mut()?;
    *to_kind = kind.to_ne_bytes();
    let (places, _) = fields.as_chunks_mut::<4>();
    for (place, number) in places.iter_mut().zip(numbers) {
        *place = number.to_ne_bytes();
    }
    Some(total)
}

/// Data that consists of 32-bit numbers; what is left over at the end is none.
pub(crate) fn numbers(data: &[u8]) -> impl ExactSizeIterator<Item = i32> {
    let (numbers, _) = data.as_chunks::<4>();
    numbers.iter().map(|bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(length: usize, level: i32, kind: i32) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        let mut bytes = header(HEADER_BYTES + 12, 1, 2);
        bytes.extend([7; 12]);
        bytes.resize(space(12), 0);
        bytes.extend(header(HEADER_BYTES + 4, 1, 4));
        // Cut short by a full buffer: the padding is missing.
        bytes.extend([9; 4]);
        let found: Vec<_> = parse(&bytes).collect();
        let control = |kind, data| {
            Ok(Control {
                level: 1,
                kind,
                data,
            })
        };
        assert_eq!(found, [control(2, &[7; 12][..]), control(4, &[9; 4])]);
    }

    #[test]
    fn lengths_that_lie_are_malformed_and_end_it() {
        let cases = [
            header(0, 1, 1),
            header(HEADER_BYTES - 1, 1, 1),
            header(HEADER_BYTES + 1, 1, 1),
            header(usize::MAX, 1, 1),
            header(HEADER_BYTES, 1, 1)[..HEADER_BYTES - 1].to_vec(),
            vec![0],
        ];
        for bytes in cases {
            let found: Vec<_> = parse(&bytes).collect();
            assert_eq!(found, [Err(Malformed)], "{bytes:?}");
        }
        assert_eq!(parse(&[]).next(), None);
    }

    #[test]
    fn there_is_room_or_nothing_is_written() {
        let mut room = vec![0xff; space(8)];
        assert_eq!(
            write_numbers(&mut room, 1, 1, [3, 4].into_iter()),
            Some(space(8))
        );
        let last = room.len() - 1;
        let mut short = vec![0xff; last];
        assert_eq!(write_numbers(&mut short, 1, 1, [3, 4].into_iter()), None);
        assert_eq!(short, vec![0xff; last]);
    }

    proptest! {
        #[test]
        fn no_control_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let data: usize = parse(&bytes).flatten().map(|control| control.data.len()).sum();
            prop_assert!(data <= bytes.len());
        }

        #[test]
        fn small_lengths_panic_neither(lengths in prop::collection::vec(0_usize..64, 0..8)) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| header(*length, 1, 1)).collect();
            prop_assert!(parse(&bytes).count() <= lengths.len());
        }

        #[test]
        fn parsing_what_was_written_is_the_identity(
            messages in prop::collection::vec(
                (any::<i32>(), any::<i32>(), prop::collection::vec(any::<i32>(), 0..260)), 0..4)
        ) {
            let mut bytes = vec![0xff; messages.iter().map(|(_, _, sent)| space(sent.len() * 4)).sum()];
            let mut end = 0;
            for (level, kind, sent) in &messages {
                let written = write_numbers(&mut bytes[end..], *level, *kind, sent.iter().copied());
                end += written.unwrap();
            }
            prop_assert_eq!(end, bytes.len());
            let found: Vec<_> = parse(&bytes)
                .map(|control| control.unwrap())
                .map(|control| (control.level, control.kind, numbers(control.data).collect::<Vec<_>>()))
                .collect();
            prop_assert_eq!(found, messages);
        }
    }
}
