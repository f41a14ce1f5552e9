//! Any split of the bytes gives the same frames, and what is encoded comes back.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::super::head::KnownPaths;
use super::super::varint::Cursor;
use super::super::{Accepted, Decoder, Greeting, Header, Kind, Out, fields, head, varint};
use super::{ACCEPTED, decode_one, header, made, request_of};

/// All frames of `bytes`, delivered in pieces of these lengths.
fn frames(bytes: &[u8], cuts: &[usize]) -> Vec<(Header, Vec<u8>)> {
    let accepted = Accepted {
        descriptors: true,
        ..ACCEPTED
    };
    let mut decoder = Decoder::new(accepted, BytesMut::new());
    let mut found = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cuts.next().unwrap_or(1).clamp(1, rest.len()));
        decoder.room().extend_from_slice(piece);
        decoder.grow();
        rest = after;
        while let Some(header) = decoder.frame().unwrap() {
            found.push((header, decoder.payload().to_vec()));
            if header.length % 2 == 0 {
                decoder.skip();
            } else {
                assert_eq!(decoder.take(), found.last().unwrap().1);
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(
        sizes in prop::collection::vec(0_usize..70_000, 1..5),
        cuts in prop::collection::vec(1_usize..5_000, 1..20),
    ) {
        let mut bytes = Vec::new();
        for (name, vector) in made() {
            if !name.starts_with("greeting") {
                bytes.extend(vector);
            }
        }
        for size in sizes {
            bytes.extend(header(u32::try_from(size).unwrap(), 3, 2, 0, 0));
            bytes.extend(vec![7; size]);
        }
        let whole = frames(&bytes, &[bytes.len()]);
        prop_assert_eq!(frames(&bytes, &cuts), whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Greeting::decode(&bytes);
        let _ = decode_one(&bytes);
        let _ = request_of(&bytes);
        let _ = head::decode_request(&bytes, true, &mut KnownPaths::new(1), 1024);
        let _ = head::decode_answer(&bytes, false, 1024);
        let _ = head::decode_trailers(&bytes, 1024);
    }

    #[test]
    fn numbers_come_back(number in any::<u32>()) {
        let mut out = BytesMut::new();
        varint::put(&mut out, number);
        let mut cursor = Cursor(&out);
        prop_assert_eq!(cursor.number(), Ok(number));
        prop_assert!(cursor.is_empty());
    }

    #[test]
    fn fields_come_back(pairs in prop::collection::vec(("[a-z][a-z0-9-]{0,12}", "[ -~]{0,40}"), 0..12)) {
        let mut sent = HeaderMap::new();
        for (name, value) in &pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            sent.append(name, HeaderValue::from_str(value).unwrap());
        }
        let mut out = BytesMut::new();
        fields::encode(&sent, fields::Implied::Nothing, &mut out);
        let got = fields::decode(Cursor(&out), fields::Implied::Nothing, 1 << 20).unwrap();
        prop_assert_eq!(&got, &sent);
        prop_assert!(fields::size(&sent) <= 1 << 20);
    }

    #[test]
    fn what_is_written_in_pieces_is_what_was_queued(
        sizes in prop::collection::vec(0_usize..40_000, 1..8),
        steps in prop::collection::vec(1_usize..30_000, 1..30),
    ) {
        let mut out = Out::default();
        for size in &sizes {
            out.data(1, Bytes::from(vec![5; *size]), false);
            out.window(0, 3);
        }
        let mut written = Vec::new();
        let mut steps = steps.into_iter().cycle();
        while !out.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 3];
            let count = out.slices(&mut slices);
            let flat: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            let step = steps.next().unwrap().min(flat.len());
            written.extend_from_slice(&flat[..step]);
            out.advance(step);
        }
        let lengths: Vec<usize> = frames(&written, &[written.len()])
            .iter()
            .filter(|(header, _)| header.kind == Kind::Data)
            .map(|(header, _)| header.length)
            .collect();
        prop_assert_eq!(lengths, sizes);
    }
}
