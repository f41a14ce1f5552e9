//! Decoders: known bytes give known notes, however they are split, and no bytes at all make one fail.

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

use super::hpack::{Malformed, Table};
use super::http2::PREFACE;
use super::{Bytes, Note, Packets, Side};

const MS: Duration = Duration::from_millis(1);

fn lines(notes: &[(Side, Note)]) -> Vec<String> {
    notes.iter().map(|(_, note)| note.line()).collect()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ];
    [&head, payload].concat()
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let mut out = vec![0x40, length(name)];
    out.extend_from_slice(name.as_bytes());
    out.push(length(value));
    out.extend_from_slice(value.as_bytes());
    out
}

/// A unary call, as it comes from both sides.
fn grpc_call() -> (Vec<u8>, Vec<u8>) {
    let request = [
        literal(":path", "/a.S/M"),
        literal("content-type", "application/grpc"),
        literal("grpc-timeout", "1S"),
    ]
    .concat();
    let client = [
        PREFACE.to_vec(),
        frame(4, 0, 0, &[0, 4, 0, 1, 0, 0]),
        frame(1, 4, 1, &request),
        frame(0, 1, 1, &[0, 0, 0, 0, 3, 1, 2, 3]),
    ]
    .concat();
    let head = [vec![0x88], literal("content-type", "application/grpc")].concat();
    let trailers = [literal("grpc-status", "5"), literal("grpc-message", "no")].concat();
    let server = [
        frame(1, 4, 1, &head),
        // Padded: its length first, its zeroes last.
        frame(0, 8, 1, &[2, 0, 0, 0, 0, 1, 9, 0, 0]),
        frame(1, 5, 1, &trailers),
    ]
    .concat();
    (client, server)
}

#[test]
fn a_grpc_call_is_named_measured_and_timed() {
    let (client, server) = grpc_call();
    let mut bytes = Bytes::new(None, 256);
    let asked = lines(&bytes.feed(Side::Client, &client, MS));
    assert_eq!(
        asked,
        [
            "HTTP/2 preface",
            "HTTP/2 SETTINGS stream=0 settings=[INITIAL_WINDOW_SIZE=65536]",
            "HTTP/2 HEADERS stream=1 headers=[:path: /a.S/M, content-type: application/grpc, grpc-timeout: 1S]",
            "gRPC call stream=1 method=/a.S/M timeout=1S",
            "HTTP/2 DATA stream=1 length=8 end",
            "gRPC request message stream=1 method=/a.S/M bytes=3",
        ]
    );
    let answered = lines(&bytes.feed(Side::Server, &server, MS * 3));
    assert_eq!(
        answered,
        [
            "HTTP/2 HEADERS stream=1 headers=[:status: 200, content-type: application/grpc]",
            "HTTP/2 DATA stream=1 length=9",
            "gRPC response message stream=1 method=/a.S/M bytes=1",
            "HTTP/2 HEADERS stream=1 end headers=[grpc-status: 5, grpc-message: no]",
            "gRPC status stream=1 method=/a.S/M code=5 status=NOT_FOUND message=no took_us=2000",
        ]
    );
}

#[test]
fn messages_of_known_methods_are_json() {
    let pool = prost_reflect::DescriptorPool::decode(crate::diag::FILE_DESCRIPTOR_SET).unwrap();
    let request = [
        literal(":path", "/nigh.diag.v1.Diag/Echo"),
        literal("content-type", "application/grpc"),
    ]
    .concat();
    let client = [
        PREFACE.to_vec(),
        frame(1, 4, 1, &request),
        frame(0, 1, 1, &[0, 0, 0, 0, 4, 0x0a, 2, b'h', b'i']),
    ]
    .concat();
    let mut bytes = Bytes::new(Some(pool), 256);
    let notes = bytes.feed(Side::Client, &client, MS);
    let line = lines(&notes).pop().unwrap();
    assert!(line.ends_with(r#"bytes=4 json={"text":"hi"}"#), "{line}");
}

#[test]
fn control_frames_say_what_they_are() {
    let mut bytes = Bytes::new(None, 256);
    bytes.feed(Side::Client, PREFACE, MS);
    let frames = [
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(4, 1, 0, &[]),
        frame(6, 0, 0, &[1; 8]),
        frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 11, b'x']),
        frame(8, 0, 3, &[0, 0, 1, 0]),
        frame(77, 0, 0, &[1, 2]),
        frame(7, 0, 0, &[1]),
        frame(1, 4, 5, &[0xff]),
        frame(1, 4, 7, &[0x88]),
    ];
    assert_eq!(
        lines(&bytes.feed(Side::Server, &frames.concat(), MS)),
        [
            "HTTP/2 RST_STREAM stream=1 error=CANCEL",
            "HTTP/2 SETTINGS stream=0 ack settings=[]",
            "HTTP/2 PING stream=0 opaque=0101010101010101",
            "HTTP/2 GOAWAY stream=0 last_stream=3 error=ENHANCE_YOUR_CALM debug=x",
            "HTTP/2 WINDOW_UPDATE stream=3 increment=256",
            "HTTP/2 frame of type 77 stream=0 payload=2",
            "HTTP/2 GOAWAY stream=0",
            "HTTP/2 HEADERS stream=5 undecodable",
            "HTTP/2 HEADERS stream=7 undecodable",
        ]
    );
}

#[test]
fn the_header_table_follows_its_encoder() {
    // RFC 7541, C.4: three requests with Huffman codes.
    let mut table = Table::new();
    let blocks: [&[u8]; 3] = [
        &[
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab,
            0x90, 0xf4, 0xff,
        ],
        &[
            0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf,
        ],
        &[
            0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f,
            0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
        ],
    ];
    let last: [(&[u8], &[u8]); 3] = [
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
        (b"custom-key", b"custom-value"),
    ];
    for (block, (name, value)) in blocks.into_iter().zip(last) {
        let header = table.decode(block).unwrap().pop().unwrap();
        assert_eq!(header, (name.to_vec(), value.to_vec()));
    }
    // An index that nothing has; after it nothing is sure.
    assert_eq!(table.decode(&[0xff, 0x40]), Err(Malformed));
    assert_eq!(table.decode(&[0x82]), Err(Malformed));
}

#[test]
fn http1_heads_are_shown_and_bodies_measured() {
    let mut bytes = Bytes::new(None, 256);
    let client = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHEAD / HTTP/1.1\r\n\r\n";
    assert_eq!(
        lines(&bytes.feed(Side::Client, client, MS)),
        [
            "HTTP/1.1 POST /x HTTP/1.1 headers=[Content-Length: 3]",
            "HTTP/1.1 body bytes=3",
            "HTTP/1.1 HEAD / HTTP/1.1 headers=[]",
        ]
    );
    let server = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;a=b\r\nhi\r\n0\r\nt: v\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 101 Up\r\n\r\n\x01";
    assert_eq!(
        lines(&bytes.feed(Side::Server, server, MS * 2)),
        [
            "HTTP/1.1 HTTP/1.1 100 Continue headers=[]",
            "HTTP/1.1 HTTP/1.1 200 OK headers=[Transfer-Encoding: chunked] took_us=1000",
            "HTTP/1.1 trailer header=t: v",
            "HTTP/1.1 body bytes=2",
            "HTTP/1.1 HTTP/1.1 200 OK headers=[Content-Length: 9] took_us=1000",
            "HTTP/1.1 HTTP/1.1 101 Up headers=[]",
            "bytes piece length=1 hex=01",
        ]
    );
}

#[test]
fn what_nobody_knows_is_hexadecimal() {
    let mut bytes = Bytes::new(None, 2);
    assert_eq!(
        lines(&bytes.feed(Side::Client, &[1, 2, 3], MS)),
        ["bytes piece length=3 hex=0102 not_shown=1"]
    );
    // A beginning that may still become a preface is shown at the end at the latest.
    let mut bytes = Bytes::new(None, 9);
    assert!(bytes.feed(Side::Client, b"PRI", MS).is_empty());
    assert!(bytes.feed(Side::Server, b"x", MS).is_empty());
    assert_eq!(
        bytes.end(Side::Client, MS),
        [
            (Side::Client, Note::bytes("piece", b"PRI", 9)),
            (Side::Server, Note::bytes("piece", b"x", 9)),
        ]
    );
}

/// The lines of a packet's notes.
fn said(notes: Vec<Note>) -> String {
    let lines: Vec<String> = notes.iter().map(Note::line).collect();
    lines.join("\n")
}

#[test]
fn several_drpc_messages_in_a_packet_are_several_lines() {
    use nigh_drpc::wire::{Chunks, Features, Response, Status};
    let packet = |sequence, features| {
        let mut response = Response::new(sequence, Status::Success);
        response.extensions.features = features;
        let chunk = Chunks::of(response.encode()).next().unwrap();
        [&chunk.header[..], &chunk.data.to_bytes()].concat()
    };
    let row = [packet(2, Features::NONE), packet(3, Features::NONE)].concat();
    let mut packets = Packets::new(true, 256);
    packets.feed(Side::Server, &packet(1, Features::NONE), MS);
    let before = said(packets.feed(Side::Server, &row, MS));
    assert!(before.starts_with("dRPC packet out of order"), "{before}");
    packets.feed(Side::Server, &packet(1, Features::ROWS), MS);
    assert_eq!(
        said(packets.feed(Side::Server, &row, MS)),
        "dRPC response sequence=2 status=SUCCESS body_bytes=0 framing=chunked\n\
         dRPC response sequence=3 status=SUCCESS body_bytes=0 framing=chunked"
    );
}

#[test]
fn drpc_calls_have_names_in_both_framings() {
    let greeting = b"\x18\x01\x22\x08\x0a\x06Friend";
    let mut header = vec![0; 24];
    header[0] = 12;
    header[8] = 12;
    header[20] = 1;
    let chunked = [&header, greeting.as_slice()].concat();
    for (packet, framing) in [(greeting.to_vec(), "legacy"), (chunked, "chunked")] {
        let mut packets = Packets::new(true, 256);
        assert_eq!(
            said(packets.feed(Side::Client, &packet, MS)),
            format!(
                "dRPC call method=TEST/GREETING module_id=0 method_id=0 sequence=1 body_bytes=8 \
                 body=0a06467269656e64 framing={framing}"
            )
        );
        let mut answer = b"\x08\x01\x10\x04".to_vec();
        if framing == "chunked" {
            header[0] = 4;
            header[8] = 4;
            answer = [&header, answer.as_slice()].concat();
        }
        assert_eq!(
            said(packets.feed(Side::Server, &answer, MS * 2)),
            format!(
                "dRPC response method=TEST/GREETING sequence=1 status=UNKNOWN_METHOD body_bytes=0 \
                 took_us=1000 framing={framing}"
            )
        );
    }
}

#[test]
fn a_long_drpc_message_is_known_by_its_first_packet() {
    let message = nigh_drpc::wire::Call {
        module: 2,
        method: 207,
        sequence: -1,
        body: vec![7; 300_000].into(),
        ..nigh_drpc::wire::Call::default()
    };
    let mut packets = Packets::new(false, 2);
    let mut seen = Vec::new();
    for chunk in nigh_drpc::wire::Chunks::of(message.encode()) {
        let packet = [&chunk.header[..], &chunk.data.to_bytes()].concat();
        seen.push(said(packets.feed(Side::Client, &packet, MS)));
    }
    assert_eq!(
        seen[0],
        "dRPC call method=MGMT/POOL_CREATE module_id=2 method_id=207 sequence=-1 body_bytes=300000 \
         body=0707 not_shown=299998 framing=chunked message_bytes=300020 chunks=3"
    );
    assert_eq!(seen[2], "dRPC chunk chunk=3 of 3 bytes=37924");
    // A chunk that is not the next.
    let stray = [
        &[
            9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
        ],
        [1].as_slice(),
    ]
    .concat();
    assert!(said(packets.feed(Side::Client, &stray, MS)).starts_with("dRPC packet out of order"));
}

#[test]
fn packets_without_a_known_wire_are_hexadecimal() {
    let mut packets = Packets::new(false, 256);
    let line = said(packets.feed(Side::Client, &[8, 1], MS));
    assert_eq!(line, "bytes packet length=2 hex=0801");
    let mut packets = Packets::new(true, 256);
    let line = said(packets.feed(Side::Server, &[1, 2], MS));
    assert_eq!(line, "bytes packet length=2 hex=0102");
}

fn script() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let piece = proptest::collection::vec(any::<u8>(), 0..200);
    proptest::collection::vec((any::<bool>(), piece), 0..20)
}

fn side(is_client: bool) -> Side {
    if is_client {
        Side::Client
    } else {
        Side::Server
    }
}

/// Notes of a call whose bytes come in pieces of these sizes.
fn in_pieces(client: &[u8], server: &[u8], sizes: &[usize]) -> Vec<String> {
    let mut bytes = Bytes::new(None, 256);
    let mut seen = Vec::new();
    for (side, mut rest) in [(Side::Client, client), (Side::Server, server)] {
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let taken = sizes.next().map_or(1, |size| *size).min(rest.len());
            seen.extend(lines(&bytes.feed(side, &rest[..taken], MS)));
            rest = &rest[taken..];
        }
    }
    seen
}

proptest! {
    #[test]
    fn no_bytes_make_a_stream_decoder_fail(script in script(), start in 0_usize..4) {
        let mut bytes = Bytes::new(None, 16);
        let starts: [&[u8]; 4] = [b"", PREFACE, b"GET / HTTP/1.1\r\n", b"A / \r\nTransfer-Encoding: chunked\n\n"];
        bytes.feed(Side::Client, starts[start], MS);
        for (is_client, piece) in script {
            bytes.feed(side(is_client), &piece, MS);
        }
        bytes.end(Side::Client, MS);
        bytes.end(Side::Server, MS);
    }

    #[test]
    fn no_frames_make_the_http2_decoder_fail(
        frames in proptest::collection::vec(
            (any::<bool>(), 0_u8..11, any::<u8>(), 0_u8..4, proptest::collection::vec(any::<u8>(), 0..60)), 0..30)
    ) {
        let mut bytes = Bytes::new(None, 16);
        bytes.feed(Side::Client, PREFACE, MS);
        for (is_client, kind, flags, stream, payload) in frames {
            bytes.feed(side(is_client), &frame(kind, flags, stream, &payload), MS);
        }
    }

    #[test]
    fn no_packets_make_a_packet_decoder_fail(script in script(), is_drpc: bool) {
        let mut packets = Packets::new(is_drpc, 16);
        for (is_client, packet) in script {
            packets.feed(side(is_client), &packet, MS);
        }
    }

    #[test]
    fn no_chunks_make_the_drpc_decoder_fail(
        chunks in proptest::collection::vec(
            (any::<bool>(), 0_u32..4, 0_u32..4, proptest::collection::vec(any::<u8>(), 0..60)), 0..20)
    ) {
        let mut packets = Packets::new(true, 16);
        for (is_client, index, count, data) in chunks {
            let length = data.len() as u64;
            let header = nigh_drpc::wire::Header { total: length, length, index, count };
            packets.feed(side(is_client), &[&header.encode(), data.as_slice()].concat(), MS);
        }
    }

    #[test]
    fn pieces_make_no_difference(sizes in proptest::collection::vec(1_usize..40, 1..8)) {
        let (client, server) = grpc_call();
        let whole = in_pieces(&client, &server, &[usize::MAX]);
        prop_assert_eq!(in_pieces(&client, &server, &sizes), whole);
        let (client, server) = (b"PUT / HTTP/1.1\r\na: b\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc");
        let whole = in_pieces(client, server, &[usize::MAX]);
        prop_assert_eq!(in_pieces(client, server, &sizes), whole);
    }
}
