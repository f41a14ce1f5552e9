//! What the nigh wire's frames hold: what is understood is understood again as this side would write it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh::fuzzing::{nigh_answer, nigh_control, nigh_fields, nigh_request, nigh_trailers};

fuzz_target!(|content: &[u8]| {
    for is_plain in [false, true] {
        if let Some(request) = nigh_request(content, is_plain) {
            assert_eq!(
                nigh_request(&request.bytes, request.is_plain).as_ref(),
                Some(&request)
            );
        }
        if let Some(answer) = nigh_answer(content, is_plain) {
            assert_eq!(
                nigh_answer(&answer.bytes, answer.is_plain).as_ref(),
                Some(&answer)
            );
        }
    }
    if let Some(trailers) = nigh_trailers(content) {
        assert_eq!(nigh_trailers(&trailers.bytes).as_ref(), Some(&trailers));
    }
    if let Some(size) = nigh_fields(content) {
        assert!(size <= 1024);
    }
    nigh_control(content);
});
