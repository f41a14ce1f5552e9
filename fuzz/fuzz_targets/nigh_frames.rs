//! The nigh wire's frames: however a stream is cut, the same frames and the same violation come out of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh::fuzzing::nigh_frames;

mod cut;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    let whole = nigh_frames(&[&bytes]);
    assert_eq!(nigh_frames(&cut::pieces(&bytes, &cuts)), whole);
});
