//! dRPC's receiving side, in both framings, under hostile packets: no panic, and no memory beyond what came.
//!
//! The input is a row of packets, each behind its length in one byte (doubled, so that several headers fit).
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh_drpc::fuzzing::{Receiver, Speaking};

fuzz_target!(|input: &[u8]| {
    let Some((&first, mut rest)) = input.split_first() else {
        return;
    };
    let speaking = match first % 4 {
        0 => Speaking::Chunked,
        1 => Speaking::Legacy,
        2 => Speaking::Rows,
        _ => Speaking::Unknown,
    };
    let Ok(mut receiver) = Receiver::new(speaking, 1 << 20) else {
        return;
    };
    let mut received = 0;
    while let Some((&length, after)) = rest.split_first() {
        let (packet, after) = after.split_at(after.len().min(usize::from(length) * 2));
        rest = after;
        received += packet.len();
        match receiver.push(packet) {
            Ok(messages) => {
                let bytes: usize = messages.iter().map(bytes::Bytes::len).sum();
                assert!(bytes <= received);
            }
            Err(_) => return,
        }
        assert!(receiver.capacity() <= 2 * received);
    }
});
