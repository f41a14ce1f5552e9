//! The tap's decoders of byte streams: HTTP/1, HTTP/2, HPACK, gRPC, the nigh wire, both sides. None fails; cuts in what the
//! client says make no difference to what is understood of it.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nigh_cli::tap::decode::{Bytes, Side};

mod cut;

const BEGINNINGS: [&[u8]; 4] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /a.S/M HTTP/1.1\r\n",
    b"\0nigh\r\n\x1a\x01\0\x28\0\0\0\0\0\0\0\x04\0\0\0\x01\0\0\0\x40\0\0\0\x80\0\0\0\0\0\0\0\0\0",
    b"",
];

fuzz_target!(|input: (u8, Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (wire, client, server, cuts) = input;
    let begin = BEGINNINGS[usize::from(wire) % BEGINNINGS.len()];
    let client = [begin, &client].concat();
    let server = if wire % 4 == 2 {
        [begin, &server].concat()
    } else {
        server
    };
    let notes = |pieces: Vec<&[u8]>| {
        let mut bytes = Bytes::new(None, 16);
        let mut lines = Vec::new();
        for piece in pieces {
            lines.extend(bytes.feed(Side::Client, piece, Duration::from_millis(1)));
        }
        lines.extend(bytes.feed(Side::Server, &server, Duration::from_millis(2)));
        lines.extend(bytes.end(Side::Client, Duration::from_millis(3)));
        lines.extend(bytes.end(Side::Server, Duration::from_millis(3)));
        // Bytes that nobody understands are shown as they come; how many lines those are depends on the cuts.
        let known = lines.iter().filter(|(_, note)| note.wire != "bytes");
        known.map(|(_, note)| note.line()).collect::<Vec<_>>()
    };
    let whole = notes(vec![&client]);
    assert_eq!(notes(cut::pieces(&client, &cuts)), whole);
});
