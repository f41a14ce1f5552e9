//! dRPC's detector: every call as real peers encode it is told from a chunk, and its first chunk from a call.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nigh_drpc::wire::{
    AUTO_MESSAGE_BYTES_MAX, Call, CallExtensions, Chunks, Detector, FirstCall, FirstPacket,
};

fuzz_target!(|packet: &[u8]| {
    let Ok(detector) = Detector::new(AUTO_MESSAGE_BYTES_MAX) else {
        return;
    };
    let decided = detector.decide(packet);
    let _ = FirstCall::of(packet, packet.len());
    if decided == FirstPacket::Legacy {
        assert!(Call::is_valid(packet));
    }
    // As a call, canonical: whatever the packet claims in its header's place is a body then.
    let as_body = Call {
        sequence: 1,
        body: Bytes::copy_from_slice(packet),
        ..Call::default()
    };
    let read = Call::decode(&Bytes::copy_from_slice(packet));
    for call in read.into_iter().chain([as_body]) {
        let canonical = Call {
            extensions: CallExtensions::default(),
            unknown: Bytes::new(),
            ..call
        };
        let message = canonical.encode();
        assert_eq!(detector.decide(&message), FirstPacket::Legacy);
        let Some(chunk) = Chunks::of(message).next() else {
            return;
        };
        let first = [&chunk.header[..], &chunk.data.to_bytes()].concat();
        assert_eq!(detector.decide(&first), FirstPacket::Chunked);
    }
});
