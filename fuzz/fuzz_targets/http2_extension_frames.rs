//! Extension frames between HTTP/2's: however a stream is cut, the same passes and the same is taken out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh::fuzzing::extension_frames;

mod cut;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    for preface_bytes in [0, 24] {
        let whole = extension_frames(&[&bytes], preface_bytes);
        assert!(whole.0.len() <= bytes.len());
        assert_eq!(
            extension_frames(&cut::pieces(&bytes, &cuts), preface_bytes),
            whole
        );
    }
});
