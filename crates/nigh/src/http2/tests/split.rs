//! Any split of any stream gives the same bytes, no input panics, and nothing but the authority is ever shorter.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::client::{bad_first, connection, request};
use super::{PREFACE, fix, frame};
use crate::http2::authority::{AuthorityFix, HELD_BYTES_MAX};

fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// Bytes that are frames, of block kinds more often than not, with anything in them.
fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![6 => Just(1_u8), 3 => Just(9), 2 => Just(0), 1 => any::<u8>()];
    let text = prop_oneof![Just(b"\x41\x02/x".to_vec()), vec(any::<u8>(), 0..30)];
    let one = (kind, any::<u8>(), 0..3_u32, text);
    vec(one, 0..20).prop_map(|frames| {
        let frames = frames
            .iter()
            .map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload));
        [PREFACE.to_vec(), frames.collect::<Vec<_>>().concat()].concat()
    })
}

proptest! {
    #![proptest_config(super::config(100))]

    #[test]
    fn any_split_of_a_connection_gives_the_same(
        requests in vec(request(), 1..8), cuts in vec(any::<Index>(), 0..60),
    ) {
        let bytes = connection(&requests);
        let whole = fix([bytes.as_slice()]);
        prop_assert_eq!(&fix(pieces(&bytes, &cuts)), &whole);
        prop_assert_eq!(fix(bytes.chunks(1)), whole);
    }

    #[test]
    fn any_split_of_a_damaged_connection_gives_the_same(
        requests in bad_first(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..60),
    ) {
        let mut bytes = connection(&requests);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = fix([bytes.as_slice()]);
        prop_assert!(whole.0.len() <= bytes.len());
        prop_assert_eq!(fix(pieces(&bytes, &cuts)), whole);
    }

    #[test]
    fn any_frames_in_any_split_give_the_same_and_nothing_longer(
        bytes in any_frames(), cuts in vec(any::<Index>(), 0..30),
    ) {
        let whole = fix([bytes.as_slice()]);
        prop_assert!(whole.0.len() <= bytes.len());
        prop_assert_eq!(fix(pieces(&bytes, &cuts)), whole);
    }

    #[test]
    fn bytes_without_a_preface_pass_as_they_are(bytes in vec(any::<u8>(), 1..200)) {
        prop_assert_eq!(fix(bytes.chunks(7)), (bytes, false));
    }

    #[test]
    fn never_more_is_held_than_the_limit(bytes in any_frames(), long in 0..200_000_u32) {
        let [_, a, b, c] = long.to_be_bytes();
        let open = [bytes, vec![a, b, c, 1, 0, 0, 0, 0, 1], vec![0; 200_000]].concat();
        let mut fix = AuthorityFix::new();
        let mut out = Vec::new();
        let mut given = 0;
        for piece in open.chunks(1000) {
            given += piece.len();
            let passed = fix.feed(piece, &mut out);
            out.extend(&piece[..passed]);
            // Fixing takes away at most what it replaces, here two bytes of each short block.
            prop_assert!(given - out.len() <= HELD_BYTES_MAX + 100);
        }
    }
}
