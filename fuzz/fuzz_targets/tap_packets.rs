//! The tap's decoder of packets: whatever two sides send, it says something about each packet and fails at none.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nigh_cli::tap::decode::{Packets, Side};

fuzz_target!(|input: (bool, Vec<(bool, Vec<u8>)>)| {
    let (is_drpc, packets) = input;
    let mut decoder = Packets::new(is_drpc, 16);
    for (is_client, packet) in packets {
        let side = if is_client {
            Side::Client
        } else {
            Side::Server
        };
        let notes = decoder.feed(side, &packet, Duration::from_millis(1));
        assert!(!notes.is_empty() && notes.iter().all(|note| !note.line().is_empty()));
    }
});
