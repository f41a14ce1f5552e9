//! The authority fix with every byte written out.

use std::slice::from_ref;

use super::{PREFACE, fix, frame};
use crate::http2::authority::HELD_BYTES_MAX;

/// `localhost` in Huffman code, with its length before it.
const LOCALHOST: &[u8] = &[0x86, 0xa0, 0xe4, 0x1d, 0x13, 0x9d, 0x09];

/// The frames that a connection of these frames becomes; each must come out by itself for the next to come out right.
#[track_caller]
fn becomes(frames: &[Vec<u8>], expected: &[Vec<u8>], watching: bool) {
    let bytes = [PREFACE.to_vec(), frames.concat()].concat();
    let expected = [PREFACE.to_vec(), expected.concat()].concat();
    let (out, still) = fix([bytes.as_slice()]);
    assert_eq!((&out, still), (&expected, watching), "in one piece");
    assert_eq!(fix(bytes.chunks(1)).0, expected, "byte by byte");
}

/// A whole header block in one frame.
fn headers(block: &[&[u8]]) -> Vec<u8> {
    frame(1, 4, 1, &block.concat())
}

#[test]
fn a_literal_named_by_the_static_index_in_all_three_forms() {
    for first in [0x41, 0x11, 0x01] {
        let sent = headers(&[b"\x83", &[first], b"\x0f/var/run/x.sock", b"\x86"]);
        let fixed = headers(&[b"\x83", &[first], LOCALHOST, b"\x86"]);
        becomes(&[sent], &[fixed], true);
    }
}

#[test]
fn a_literal_name_plain_and_in_huffman_code() {
    let plain = b"\x40\x0a:authority";
    let huffman = b"\x40\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f";
    for name in [&plain[..], huffman] {
        let sent = headers(&[name, b"\x0f/var/run/x.sock"]);
        becomes(&[sent], &[headers(&[name, LOCALHOST])], true);
    }
}

#[test]
fn a_value_in_huffman_code() {
    let mut code = Vec::new();
    httlib_huffman::encode(b"%2Fvar%2Frun%2Fx.sock", &mut code).unwrap();
    let value = [&[0x80 | u8::try_from(code.len()).unwrap()][..], &code].concat();
    becomes(
        &[headers(&[b"\x41", &value])],
        &[headers(&[b"\x41", LOCALHOST])],
        true,
    );
}

#[test]
fn the_block_that_grpcio_sends() {
    // grpcio 1.85.1 (C core 58) with insecure_channel("unix:/tmp/gserver/cap.sock"), recorded from the socket.
    let before = b"\x40\x05:path\x1c/grpc.health.v1.Health/Check\x40\x0a:authority";
    let after = b"\x83\x86\x40\x0ccontent-type\x10application/grpc\x40\x02te\x08trailers\
        \x40\x14grpc-accept-encoding\x17identity, deflate, gzip\x40\x0cgrpc-timeout\x04800m\
        \x40\x0auser-agent\x30grpc-python/1.85.1 grpc-c/58.0.0 (linux; chttp2)";
    let sent = headers(&[before, b"\x18tmp%2Fgserver%2Fcap.sock", after]);
    becomes(&[sent], &[headers(&[before, LOCALHOST, after])], true);
}

#[test]
fn what_is_shorter_than_localhost_becomes_x() {
    becomes(
        &[headers(&[b"\x41\x01/"])],
        &[headers(&[b"\x41\x01x"])],
        true,
    );
    becomes(
        &[headers(&[b"\x41\x08/run/a.s"])],
        &[headers(&[b"\x41\x01x"])],
        true,
    );
    becomes(
        &[headers(&[b"\x41\x09/run/ab.s"])],
        &[headers(&[b"\x41", LOCALHOST])],
        true,
    );
}

#[test]
fn a_name_in_the_dynamic_table() {
    let bad = headers(&[b"\x41\x04unix", b"\x40\x01a\x01b"]);
    // 62 is a: b, 63 the authority.
    let first = headers(&[b"\x41\x09/var/run/", b"\x40\x01a\x01b"]);
    let fixed = headers(&[b"\x41", LOCALHOST, b"\x40\x01a\x01b"]);
    let again = headers(&[b"\x7f\x00\x02/x"]);
    let second = headers(&[b"\x7f\x00\x01x"]);
    becomes(&[first, again], &[fixed, second], true);
    // The first was good, so the second is not looked at.
    let again = headers(&[b"\x7f\x00\x02/x"]);
    becomes(&[bad.clone(), again.clone()], &[bad, again], false);
}

#[test]
fn an_indexed_authority_was_put_right_when_it_went_in() {
    let first = headers(&[b"\x41\x0a/var/run/x"]);
    let fixed = headers(&[b"\x41", LOCALHOST]);
    let indexed = headers(&[b"\xbe"]);
    becomes(&[first, indexed.clone()], &[fixed, indexed], true);
}

#[test]
fn the_first_good_or_absent_authority_ends_the_watch() {
    let bad = headers(&[b"\x41\x02/x"]);
    for block in [&b"\x41\x09localhost"[..], b"\x83\x86", b"\x01\x01a"] {
        let good = headers(&[block]);
        becomes(&[good.clone(), bad.clone()], &[good, bad.clone()], false);
    }
}

#[test]
fn a_good_one_after_a_bad_one_does_not_end_the_watch() {
    let bad = headers(&[b"\x01\x02/x"]);
    let fixed = headers(&[b"\x01\x01x"]);
    let good = headers(&[b"\x01\x04good"]);
    let none = headers(&[b"\x83"]);
    becomes(
        &[bad.clone(), good.clone(), none.clone(), bad],
        &[fixed.clone(), good, none, fixed],
        true,
    );
}

#[test]
fn an_empty_authority_stays_and_is_watched() {
    let bad = headers(&[b"\x01\x02/x"]);
    let fixed = headers(&[b"\x01\x01x"]);
    for block in [&b"\x01\x00"[..], b"\x81", b"\x41\x80"] {
        let empty = headers(&[block]);
        becomes(&[empty.clone(), bad.clone()], &[empty, fixed.clone()], true);
    }
}

#[test]
fn an_entry_too_long_empties_the_encoders_table() {
    // A table of 60 bytes: /var/run/nigh/app.sock needs 64, localhost 51, so h2 has one entry and the encoder none.
    let update = b"\x3f\x1d";
    let first = headers(&[update, b"\x41\x16/var/run/nigh/app.sock"]);
    let fixed = headers(&[update, b"\x41", LOCALHOST]);
    // What comes next is 62 for both.
    let next = headers(&[b"\x41\x02/x", b"\x7e\x02/y"]);
    let next_fixed = headers(&[b"\x41\x01x", b"\x7e\x01x"]);
    let third = headers(&[b"\x40\x01a\x01b", b"\x7e\x02/y"]);
    becomes(
        &[first.clone(), next, third.clone()],
        &[fixed.clone(), next_fixed, third],
        true,
    );
    // An index to the one that never went in is not the encoder's.
    let broken = headers(&[b"\x7e\x02/x"]);
    becomes(&[first, broken.clone()], &[fixed, broken], false);
}

#[test]
fn eviction_follows_the_encoder() {
    // 95 bytes hold the authority (10 + 9 + 32) and a: b (34), not both and another 34.
    let update = b"\x3f\x40";
    let first = headers(&[update, b"\x41\x09/run/ab.s", b"\x40\x01a\x01b"]);
    let fixed = headers(&[update, b"\x41", LOCALHOST, b"\x40\x01a\x01b"]);
    let good = headers(&[b"\x7f\x00\x02/x"]);
    let evicted = headers(&[b"\x7f\x00\x01x"]);
    becomes(&[first.clone(), good], &[fixed.clone(), evicted], true);
    // Once evicted, 64 is nobody's name, and the block is not ours to judge.
    let third = headers(&[b"\x40\x01c\x01d"]);
    let broken = headers(&[b"\x0f\x31\x02/x"]);
    becomes(
        &[first, third.clone(), broken.clone()],
        &[fixed, third, broken],
        false,
    );
}

#[test]
fn padding_and_priority_stay() {
    let sent = frame(1, 0x2d, 3, b"\x02\x80\0\0\x01\x10\x41\x0a/var/run/x\0\0");
    let fixed = [b"\x02\x80\0\0\x01\x10\x41", LOCALHOST, b"\0\0"].concat();
    becomes(&[sent], &[frame(1, 0x2d, 3, &fixed)], true);
}

#[test]
fn a_block_cut_at_every_byte_keeps_its_frames() {
    let block = b"\x83\x41\x0c/var/run/x.s\x86";
    let fixed = [b"\x83\x41", LOCALHOST, b"\x86"].concat();
    for at in 0..=block.len() {
        let (head, tail) = block.split_at(at);
        let (fixed_head, fixed_tail) = fixed.split_at(at.min(fixed.len()));
        becomes(
            &[
                frame(1, 1, 5, head),
                frame(9, 0, 5, b""),
                frame(9, 4, 5, tail),
            ],
            &[
                frame(1, 1, 5, fixed_head),
                frame(9, 0, 5, b""),
                frame(9, 4, 5, fixed_tail),
            ],
            true,
        );
    }
}

#[test]
fn other_frames_pass_between_blocks() {
    let bad = headers(&[b"\x01\x02/x"]);
    let fixed = headers(&[b"\x01\x01x"]);
    let settings = frame(4, 0, 0, &[0; 6]);
    let data = frame(0, 0, 1, b"\0\0\x05\x01\x04\0\0\0\x01\x01\x02/x");
    let empty = frame(0, 1, 1, b"");
    becomes(
        &[
            settings.clone(),
            bad.clone(),
            data.clone(),
            empty.clone(),
            bad,
        ],
        &[settings, fixed.clone(), data, empty, fixed],
        true,
    );
}

#[test]
fn malformed_bytes_pass_for_h2_to_refuse_and_end_the_watch() {
    let bad = headers(&[b"\x01\x02/x"]);
    let fixed = headers(&[b"\x01\x01x"]);
    let no_room_for_padding = frame(1, 0x0c, 1, b"\x09\x01\x02/x");
    let cases: [&[Vec<u8>]; 14] = [
        &[headers(&[b"\x01\x02/x\x80"])],
        &[headers(&[b"\x01\x02/x\xff\xff\xff\xff\xff\xff"])],
        &[headers(&[b"\x01\x02/x\x01\x7f"])],
        &[headers(&[b"\x01\x02/x\xbe"])],
        &[headers(&[b"\x01\x02/x\x3f\xe2\x1f"])],
        &[headers(&[b"\x01\x81\xff"])],
        &[no_room_for_padding],
        &[frame(1, 0x2c, 1, b"\x00\0\0\0")],
        &[frame(1, 0x24, 1, b"\0\0\0\x01\x10\x01\x02/x")],
        &[frame(1, 4, 0, b"\x01\x02/x")],
        &[frame(9, 4, 1, b"\x01\x02/x")],
        &[frame(5, 4, 1, b"\0\0\0\x02\x01\x02/x")],
        &[frame(1, 0, 1, b"\x01"), frame(9, 4, 3, b"\x02/x")],
        &[
            frame(1, 0, 1, b"\x01"),
            frame(6, 0, 0, &[0; 8]),
            frame(9, 4, 1, b"\x02/x"),
        ],
    ];
    for case in cases {
        let sent = [from_ref(&bad), case, from_ref(&bad)].concat();
        let out = [from_ref(&fixed), case, from_ref(&bad)].concat();
        becomes(&sent, &out, false);
    }
}

#[test]
fn a_block_beyond_the_limit_passes_as_it_is_and_ends_the_watch() {
    let bad = headers(&[b"\x01\x02/x"]);
    let fixed = headers(&[b"\x01\x01x"]);
    let value = vec![b'v'; 16_000];
    let most = HELD_BYTES_MAX - 9 - 4 * (9 + 16_000);
    for (more, fits) in [(0, true), (1, false)] {
        let mut sent = vec![bad.clone(), frame(1, 0, 1, b"")];
        let mut block = b"\x10\x01a\x7f\xff\xff\x03".to_vec();
        // Inflate the value to what is left of the block, so that it is whole.
        let total = 4 * 16_000 + most - 9 + more;
        let length = total - 7 - 127;
        block[4] = 0x80 | u8::try_from(length & 0x7f).unwrap();
        block[5] = 0x80 | u8::try_from((length >> 7) & 0x7f).unwrap();
        block[6] = u8::try_from(length >> 14).unwrap();
        block.extend(value.iter().cycle().take(total - 7));
        sent.extend(
            block[..64_000]
                .chunks(16_000)
                .map(|piece| frame(9, 0, 1, piece)),
        );
        sent.push(frame(9, 4, 1, &block[64_000..]));
        sent.push(bad.clone());
        let mut out = sent.clone();
        out[0].clone_from(&fixed);
        if fits {
            out.pop();
            out.push(fixed.clone());
        }
        becomes(&sent, &out, fits);
    }
}
