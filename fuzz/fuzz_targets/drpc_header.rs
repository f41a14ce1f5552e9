//! dRPC's chunk header: any bytes decode without a panic, and encoding gives the same bytes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh_drpc::wire::{HEADER_BYTES, Header};

fuzz_target!(|packet: &[u8]| {
    match Header::decode(packet) {
        Some((header, data)) => {
            let (bytes, rest) = packet.split_at(HEADER_BYTES);
            assert_eq!(header.encode(), bytes);
            assert_eq!(data, rest);
        }
        None => assert!(packet.len() < HEADER_BYTES),
    }
});
