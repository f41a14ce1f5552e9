//! The nigh wire, by the golden vectors of its specification.

use proptest::prelude::{any, prop_assert_eq, proptest};

use super::super::nigh::MAGIC;
use super::{Bytes, MS, Note, Side, in_pieces, lines};

const VECTORS: &str = include_str!("../../../../../nigh/tests/golden/wire.txt");

/// The vectors of these names, one behind the other.
fn golden(names: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        let mut lines = VECTORS.lines().filter(|line| !line.starts_with('#'));
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let digits: Vec<u8> = line
            .unwrap()
            .bytes()
            .filter(u8::is_ascii_hexdigit)
            .collect();
        for pair in digits.chunks(2) {
            bytes.push(u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
        }
    }
    bytes
}

#[test]
fn descriptors_are_shown_with_their_frame() {
    let mut bytes = Bytes::new(None, 256);
    let names = ["greeting-client-descriptors", "fds", "request-new-path"];
    let asked = lines(&bytes.feed(Side::Client, &golden(&names), MS));
    assert!(
        asked[0].ends_with("descriptors_per_frame=64"),
        "{}",
        asked[0]
    );
    assert_eq!(
        asked[1],
        "nigh FDS stream=65536 descriptors=3 first_index=2"
    );
    let names = ["greeting-server-takes-none", "fds-too-many-in-flight"];
    let answered = lines(&bytes.feed(Side::Server, &golden(&names), MS));
    assert!(answered[0].ends_with("descriptors_per_frame=0"));
    assert!(
        answered[1].ends_with("lost=too many in flight")
            || answered[1].ends_with("lost=\"too many in flight\"")
    );
}

fn client() -> Vec<u8> {
    let names = [
        "greeting-client",
        "request-new-path",
        "data",
        "data-empty-end",
    ];
    golden(&names)
}

fn server() -> Vec<u8> {
    golden(&["greeting-server", "answer", "data", "trailers-details"])
}

#[test]
fn a_call_that_no_handler_sees_is_shown_as_such() {
    let mut bytes = Bytes::new(None, 256);
    bytes.feed(Side::Client, &client(), MS);
    let unseen = [0, 0, 0, 0, 0, 0, 1, 0, 128, 0, 0, 0];
    let refused = [&golden(&["greeting-server"])[..], &unseen].concat();
    let said = lines(&bytes.feed(Side::Server, &refused, MS));
    assert_eq!(said[1], "nigh UNSEEN stream=65536 method=/p.S/Echo");
}

#[test]
fn a_call_on_the_nigh_wire_is_named_measured_and_timed() {
    let mut bytes = Bytes::new(None, 256);
    let asked = lines(&bytes.feed(Side::Client, &client(), MS));
    assert_eq!(
        asked,
        [
            "nigh greeting version=1 features=0 frame_bytes=262144 header_bytes=65536 \
             stream_window=4194304 connection_window=8388608 calls=0 paths=0",
            "nigh HEADERS stream=65536 path=/p.S/Echo path_number=1 fields=[]",
            "gRPC call stream=65536 method=/p.S/Echo",
            "nigh DATA stream=65536 length=7",
            "gRPC request message stream=65536 method=/p.S/Echo bytes=2",
            "nigh DATA stream=65536 length=0 end",
        ]
    );
    let answered = lines(&bytes.feed(Side::Server, &server(), MS * 3));
    assert_eq!(
        answered[1..],
        [
            "nigh HEADERS stream=65536 fields=[]",
            "nigh DATA stream=65536 length=7",
            "gRPC response message stream=65536 method=/p.S/Echo bytes=2",
            "nigh TRAILERS stream=65536 fields=[grpc-status: 13, grpc-status-details-bin: CA0]",
            "gRPC status stream=65536 method=/p.S/Echo code=13 status=INTERNAL took_us=2000",
        ]
    );
    // The path by its number, and what is not gRPC's.
    let names = [
        "request-deadline-agent",
        "cancel-text",
        "request-plain-path-once",
    ];
    let later = lines(&bytes.feed(Side::Client, &golden(&names), MS * 4));
    assert_eq!(
        later,
        [
            "nigh HEADERS stream=65536 path=/p.S/Echo path_number=1 fields=[grpc-timeout: 1S, user-agent: x/1]",
            "gRPC call stream=65536 method=/p.S/Echo timeout=1S",
            "nigh CANCEL stream=65536 code=13 status=INTERNAL text=the body broke method=/p.S/Echo took_us=0",
            "nigh HEADERS stream=65536 end plain http_method=GET path=/metrics?x=1 fields=[accept: */*]",
        ]
    );
    let names = ["answer-plain", "answer-trailers-only", "trailers-ok"];
    let ends = lines(&bytes.feed(Side::Server, &golden(&names), MS * 5));
    assert_eq!(
        ends,
        [
            "nigh HEADERS stream=65536 plain http_status=404 fields=[content-type: text/plain]",
            "nigh HEADERS stream=65536 end fields=[grpc-message: none, grpc-status: 5]",
            "gRPC status stream=65536 code=5 status=NOT_FOUND message=none",
            "nigh TRAILERS stream=65536 fields=[]",
            "gRPC status stream=65536 code=0 status=OK",
        ]
    );
}

#[test]
fn frames_of_the_connection_say_what_they_are() {
    let mut bytes = Bytes::new(None, 256);
    bytes.feed(Side::Client, &golden(&["greeting-client"]), MS);
    let names = [
        "window-call",
        "window-connection",
        "goaway",
        "ping",
        "pong",
        "ignorable",
    ];
    assert_eq!(
        lines(&bytes.feed(Side::Client, &golden(&names), MS)),
        [
            "nigh WINDOW stream=65536 credit=524288",
            "nigh WINDOW stream=0 credit=1048576",
            "nigh GOAWAY stream=0 reason=leaving text=stopping",
            "nigh PING stream=0 opaque=0102030405060708",
            "nigh PONG stream=0 opaque=0102030405060708",
            "nigh frame of kind 200 stream=7 payload=3",
        ]
    );
    // Descriptors are counted where the header says so; a number that no path has is told, and ends what is known.
    let frame = |kind: u8, descriptors: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        [
            &[length, 0, 0, 0, 1, 0, 1, 0, kind, 0, descriptors, 0],
            content,
        ]
        .concat()
    };
    let odd = [
        frame(2, 3, &[]),
        frame(1, 0, &[9]),
        frame(1, 0, &[1, 1, b'/']),
    ]
    .concat();
    assert_eq!(
        lines(&bytes.feed(Side::Client, &odd, MS)),
        [
            "nigh DATA stream=65537 length=0 descriptors=3",
            "nigh HEADERS stream=65537 undecodable",
            "nigh HEADERS stream=65537 undecodable",
        ]
    );
}

#[test]
fn an_answer_in_another_wire_is_told() {
    let mut bytes = Bytes::new(None, 2);
    bytes.feed(Side::Client, &golden(&["greeting-client"]), MS);
    assert_eq!(
        lines(&bytes.feed(Side::Server, &[0, 0, 18, 4], MS)),
        [
            "nigh no greeting: this side does not speak nigh",
            "bytes piece length=4 hex=0000 not_shown=2",
        ]
    );
    // A greeting that stops in the middle is shown when it is known to have ended.
    let mut bytes = Bytes::new(None, 9);
    assert!(bytes.feed(Side::Client, &MAGIC[..7], MS).is_empty());
    bytes.feed(Side::Client, &MAGIC[7..], MS);
    assert_eq!(
        bytes.end(Side::Client, MS),
        [(Side::Client, Note::bytes("piece", MAGIC, 9))]
    );
}

proptest! {
    #[test]
    fn pieces_make_no_difference_on_the_nigh_wire(sizes in proptest::collection::vec(1_usize..40, 1..8)) {
        let whole = in_pieces(&client(), &server(), &[usize::MAX]);
        prop_assert_eq!(in_pieces(&client(), &server(), &sizes), whole);
    }

    #[test]
    fn no_bytes_after_the_greetings_make_it_fail(
        asked in proptest::collection::vec(any::<u8>(), 0..300),
        answered in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = Bytes::new(None, 8);
        bytes.feed(Side::Client, &[client(), asked].concat(), MS);
        bytes.feed(Side::Server, &[server(), answered].concat(), MS);
        bytes.end(Side::Server, MS);
    }
}
