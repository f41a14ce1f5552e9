//! The authority fix: however a client's stream is cut, the same comes out, never longer; without a preface, all as it came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh::fuzzing::authority;

mod cut;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    for stream in [[PREFACE, &bytes].concat(), bytes] {
        let whole = authority(&[&stream]);
        assert!(whole.0.len() <= stream.len());
        assert_eq!(authority(&cut::pieces(&stream, &cuts)), whole);
        if !stream.starts_with(PREFACE) {
            assert_eq!(whole.0, stream);
        }
    }
});
