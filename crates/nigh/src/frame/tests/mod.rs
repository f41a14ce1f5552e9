//! The golden vectors, any split of them, and the bytes of every violation.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::greeting;
use super::head::{self, KnownPaths, SentPaths};
use super::{
    Accepted, Decoder, END, Greeting, HEADER_BYTES, Header, Kind, Out, PLAIN, TEXT_BYTES_MAX,
    Violation, decode, encode,
};

mod descriptors;
mod properties;

const VECTORS: &str = include_str!("../../../tests/golden/wire.txt");

const ACCEPTED: Accepted = Accepted {
    frame_bytes_max: 256 * 1024,
    header_bytes_max: 16 * 1024,
    descriptors: false,
};

fn client_greeting() -> Greeting {
    Greeting {
        version: 1,
        features: 0,
        frame_bytes_max: 256 * 1024,
        header_bytes_max: 64 * 1024,
        stream_window: 4 * 1024 * 1024,
        connection_window: 8 * 1024 * 1024,
        streams_max: 0,
        paths_max: 0,
        descriptors_max: 0,
    }
}

fn with_descriptors(greeting: Greeting, descriptors_max: u16) -> Greeting {
    Greeting {
        features: greeting::DESCRIPTORS,
        descriptors_max,
        ..greeting
    }
}

fn server_greeting() -> Greeting {
    Greeting {
        header_bytes_max: 16 * 1024,
        stream_window: 1024 * 1024,
        connection_window: 2 * 1024 * 1024,
        streams_max: 256,
        paths_max: 1024,
        ..client_greeting()
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The vector of this name.
fn golden(name: &str) -> Vec<u8> {
    let mut lines = VECTORS.lines().filter(|line| !line.starts_with('#'));
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    hex(line.unwrap_or_else(|| panic!("no vector {name}")))
}

fn grpc_request(extra: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("te", HeaderValue::from_static("trailers"));
    fields.insert("content-type", HeaderValue::from_static("application/grpc"));
    for (name, value) in extra {
        let name = HeaderName::from_static(name);
        fields.append(name, HeaderValue::from_str(value).unwrap());
    }
    fields
}

fn put_request(
    out: &mut Out,
    paths: &mut SentPaths,
    stream: u32,
    request: (&Method, &str, &HeaderMap),
    end: u8,
) {
    let flags = head::request_flags(request.0, request.2);
    out.frame(Kind::Headers, flags | end, stream, |out| {
        head::encode_request(request, flags, paths, out);
    });
}

fn put_answer(out: &mut Out, stream: u32, status: StatusCode, fields: &HeaderMap, end: u8) {
    let flags = head::answer_flags(status, fields);
    out.frame(Kind::Headers, flags | end, stream, |out| {
        head::encode_answer(status, fields, flags, out);
    });
}

fn grpc_answer(extra: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = grpc_request(extra);
    fields.remove("te");
    fields
}

/// Every vector, made by this encoder.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = |make: &dyn Fn(&mut Out)| {
        let mut out = Out::default();
        make(&mut out);
        out.single().unwrap().to_vec()
    };
    let post = Method::POST;
    let echo = "/p.S/Echo";
    let stream = 0x0001_0000;
    let request = |extra: &[(&'static str, &str)], number_known: bool| {
        let fields = grpc_request(extra);
        bytes(&|out| {
            let mut paths = SentPaths::new(8);
            if number_known {
                head::encode_request((&post, echo, &fields), 0, &mut paths, &mut BytesMut::new());
            }
            put_request(out, &mut paths, stream, (&post, echo, &fields), 0);
        })
    };
    let get = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("*/*"))]);
    let failed = grpc_answer(&[("grpc-status", "5"), ("grpc-message", "none")]);
    let text = HeaderMap::from_iter([(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain"),
    )]);
    let twice = [("echo-twice", "1"), ("echo-twice", "2"), ("x-bin", "AP8H")];
    let detailed = HeaderMap::from_iter([
        (
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("13"),
        ),
        (
            HeaderName::from_static("grpc-status-details-bin"),
            HeaderValue::from_static("CA0"),
        ),
    ]);
    let ok = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let trailers = |fields: &HeaderMap| {
        bytes(&|out| {
            out.frame(Kind::Trailers, 0, stream, |out| {
                head::encode_trailers(fields, out)
            })
        })
    };
    vec![
        ("greeting-client", client_greeting().encode()),
        ("greeting-server", server_greeting().encode()),
        ("request-new-path", request(&[], false)),
        ("request-known-path", request(&[], true)),
        (
            "request-deadline-agent",
            request(&[("grpc-timeout", "1S"), ("user-agent", "x/1")], true),
        ),
        ("request-metadata", request(&twice, true)),
        (
            "request-plain-path-once",
            bytes(&|out| {
                let request = (&Method::GET, "/metrics?x=1", &get);
                put_request(out, &mut SentPaths::new(0), stream, request, END);
            }),
        ),
        (
            "answer",
            bytes(&|out| put_answer(out, stream, StatusCode::OK, &grpc_answer(&[]), 0)),
        ),
        (
            "answer-trailers-only",
            bytes(&|out| put_answer(out, stream, StatusCode::OK, &failed, END)),
        ),
        (
            "answer-plain",
            bytes(&|out| put_answer(out, stream, StatusCode::NOT_FOUND, &text, 0)),
        ),
        (
            "data",
            bytes(&|out| out.data(stream, Bytes::from_static(b"\0\0\0\0\x02hi"), false)),
        ),
        (
            "data-empty-end",
            bytes(&|out| out.data(stream, Bytes::new(), true)),
        ),
        ("trailers-ok", trailers(&ok)),
        ("trailers-details", trailers(&detailed)),
        (
            "cancel",
            bytes(&|out| out.reason(Kind::Cancel, stream, 1, "")),
        ),
        (
            "cancel-text",
            bytes(&|out| out.reason(Kind::Cancel, stream, 13, "the body broke")),
        ),
        ("window-call", bytes(&|out| out.window(stream, 524_288))),
        ("window-connection", bytes(&|out| out.window(0, 1_048_576))),
        (
            "goaway",
            bytes(&|out| out.reason(Kind::GoAway, 0, 0, "stopping")),
        ),
        (
            "ping",
            bytes(&|out| out.ping(Kind::Ping, &[1, 2, 3, 4, 5, 6, 7, 8])),
        ),
        (
            "pong",
            bytes(&|out| out.ping(Kind::Pong, &[1, 2, 3, 4, 5, 6, 7, 8])),
        ),
        (
            "ignorable",
            bytes(&|out| {
                out.frame(Kind::Ignorable(200), 0xff, 7, |out| {
                    out.extend_from_slice(&[1, 2, 3])
                });
            }),
        ),
        (
            "greeting-client-descriptors",
            with_descriptors(client_greeting(), 64).encode(),
        ),
        (
            "greeting-server-takes-none",
            with_descriptors(server_greeting(), 0).encode(),
        ),
        ("fds", encode::fds(stream, 3, 2, 0).to_vec()),
        (
            "fds-of-a-handler",
            encode::fds(stream, 1, 1 << 31, 0).to_vec(),
        ),
        (
            "fds-too-many-in-flight",
            encode::fds(stream, 3, 2, 1).to_vec(),
        ),
        ("fds-not-permitted", encode::fds(stream, 3, 2, 2).to_vec()),
        ("fds-refused", encode::fds(stream, 3, 2, 3).to_vec()),
    ]
}

#[test]
fn the_encoder_makes_the_golden_vectors() {
    for (name, bytes) in made() {
        assert_eq!(bytes, golden(name), "{name}");
    }
    let names = VECTORS
        .lines()
        .filter(|line| line.contains(':') && !line.starts_with('#'));
    assert_eq!(names.count(), made().len(), "a vector that nobody makes");
}

#[test]
fn greetings_are_read_at_any_length_and_may_be_longer() {
    let bytes = server_greeting().encode();
    for length in 0..bytes.len() {
        assert_eq!(Greeting::decode(&bytes[..length]), Ok(None), "{length}");
    }
    assert_eq!(Greeting::decode(&bytes), Ok(Some((server_greeting(), 40))));
    let mut longer = bytes;
    longer[10..12].copy_from_slice(&42_u16.to_le_bytes());
    assert_eq!(Greeting::decode(&longer), Ok(None));
    longer.extend_from_slice(&[9, 9, 9]);
    assert_eq!(Greeting::decode(&longer), Ok(Some((server_greeting(), 42))));
}

#[test]
fn greetings_that_are_none_are_named() {
    assert_eq!(
        Greeting::decode(b"PRI * HTTP/2.0"),
        Err(Violation::NoGreeting)
    );
    assert_eq!(Greeting::decode(b"\0nigh\r\nX"), Err(Violation::NoGreeting));
    let with = |at: usize, bytes: &[u8]| {
        let mut greeting = client_greeting().encode();
        greeting[at..at + bytes.len()].copy_from_slice(bytes);
        Greeting::decode(&greeting)
    };
    assert_eq!(
        with(10, &[39, 0]),
        Err(Violation::GreetingLength { length: 39 })
    );
    assert_eq!(
        with(10, &[1, 4]),
        Err(Violation::GreetingLength { length: 1025 })
    );
    for (at, limit) in [
        (8, "version"),
        (16, "frame bytes"),
        (20, "header bytes"),
        (24, "stream window"),
        (28, "connection window"),
    ] {
        let bytes = if at == 8 { &[0; 2][..] } else { &[0; 4] };
        let value = 0;
        assert_eq!(
            with(at, bytes),
            Err(Violation::GreetingLimit { limit, value })
        );
    }
    let value = u32::MAX;
    let limit = "calls";
    assert_eq!(
        with(32, &[0xff; 4]),
        Err(Violation::GreetingLimit { limit, value })
    );
}

fn decode_one(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    Decoder::new(ACCEPTED, BytesMut::from(bytes)).frame()
}

/// The header of a frame of `length` on `stream`.
fn header(length: u32, stream: u32, kind: u8, flags: u8, descriptors: u16) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&stream.to_le_bytes());
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&descriptors.to_le_bytes());
    bytes
}

#[test]
fn a_header_is_refused_before_its_content_is_there() {
    let place = |kind, stream| Violation::Place { kind, stream };
    let long = |kind, length, max| Violation::FrameLength { kind, length, max };
    for (bytes, violation) in [
        (header(0, 1, 0, 0, 0), Violation::FrameKind { code: 0 }),
        (header(0, 1, 10, 0, 0), Violation::FrameKind { code: 10 }),
        (
            header(5, 1, 9, 0, 1),
            Violation::Descriptors {
                kind: Kind::Fds,
                count: 1,
            },
        ),
        (header(0, 1, 127, 0, 0), Violation::FrameKind { code: 127 }),
        (
            header(16_385, 1, 1, 0, 0),
            long(Kind::Headers, 16_385, 16_384),
        ),
        (
            header(262_145, 1, 2, 0, 0),
            long(Kind::Data, 262_145, 262_144),
        ),
        (
            header(u32::MAX, 1, 200, 0, 0),
            long(Kind::Ignorable(200), 4_294_967_295, 262_144),
        ),
        (header(3, 1, 4, 0, 0), long(Kind::Cancel, 3, 4100)),
        (header(4101, 0, 6, 0, 0), long(Kind::GoAway, 4101, 4100)),
        (header(5, 1, 5, 0, 0), long(Kind::Window, 5, 4)),
        (header(7, 0, 7, 0, 0), long(Kind::Ping, 7, 8)),
        (
            header(0, 1, 2, PLAIN, 0),
            Violation::Flags {
                kind: Kind::Data,
                flags: 2,
            },
        ),
        (
            header(0, 1, 1, 0x80, 0),
            Violation::Flags {
                kind: Kind::Headers,
                flags: 0x80,
            },
        ),
        (
            header(0, 1, 2, 0, 3),
            Violation::Descriptors {
                kind: Kind::Data,
                count: 3,
            },
        ),
        (header(0, 0, 2, 0, 0), place(Kind::Data, 0)),
        (header(8, 5, 8, 0, 0), place(Kind::Pong, 5)),
    ] {
        assert_eq!(decode_one(&bytes), Err(violation));
    }
    assert_eq!(
        decode_one(&header(4, 1, 5, 0, 0)),
        Ok(None),
        "its content is to come"
    );
}

#[test]
fn requests_and_answers_are_decoded() {
    let mut known = KnownPaths::new(8);
    let mut decode = |name: &str| {
        let bytes = golden(name);
        let plain = bytes[9] & PLAIN != 0;
        head::decode_request(&bytes[HEADER_BYTES..], plain, &mut known, 16 * 1024)
            .unwrap()
            .0
    };
    let new = decode("request-new-path");
    assert_eq!((new.method, new.path.as_str()), (Method::POST, "/p.S/Echo"));
    assert_eq!(new.fields, grpc_request(&[]));
    assert_eq!(decode("request-known-path").path.as_str(), "/p.S/Echo");
    let twice = decode("request-metadata").fields;
    let values: Vec<_> = twice.get_all("echo-twice").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!(
        decode("request-deadline-agent").fields["grpc-timeout"],
        "1S"
    );
    let plain = decode("request-plain-path-once");
    assert_eq!(
        (plain.method, plain.path.as_str()),
        (Method::GET, "/metrics?x=1")
    );
    assert!(!plain.fields.contains_key("te"));

    let answer = |name: &str| {
        let bytes = golden(name);
        head::decode_answer(&bytes[HEADER_BYTES..], bytes[9] & PLAIN != 0, 16 * 1024).unwrap()
    };
    assert_eq!(answer("answer"), (StatusCode::OK, grpc_answer(&[])));
    assert_eq!(answer("answer-plain").0, StatusCode::NOT_FOUND);
    assert_eq!(answer("answer-trailers-only").1["grpc-message"], "none");
    let trailers = |name: &str| head::decode_trailers(&golden(name)[HEADER_BYTES..], 4096);
    assert_eq!(trailers("trailers-ok").unwrap()["grpc-status"], "0");
    assert_eq!(trailers("trailers-details").unwrap()["grpc-status"], "13");
}

fn request_of(payload: &[u8]) -> Result<head::Request, Violation> {
    head::decode_request(payload, false, &mut KnownPaths::new(1), 1024).map(|(head, _)| head)
}

#[test]
fn heads_that_are_none_are_named() {
    let path = |number, known| Violation::PathNumber { number, known };
    for (payload, violation) in [
        (&b""[..], Violation::Truncated),
        (b"\x00\x05/p", Violation::Truncated),
        (b"\x80\x80\x80\x80\x10", Violation::Varint),
        (b"\xff\xff\xff\xff\xff", Violation::Varint),
        (b"\x02\x01/", path(2, 0)),
        (b"\x00\x01x", Violation::Path),
        (b"\x00\x02/ ", Violation::Path),
        (b"\x00\x02/p\x00\x01A\x00", Violation::FieldName),
        (b"\x00\x02/p\x00\x00\x00", Violation::FieldName),
        (b"\x00\x02/p\x11\x00", Violation::FieldName),
        (b"\x00\x02/p\x03\x01\n", Violation::FieldValue),
        (b"\x00\x02/p\x03\x05x", Violation::Truncated),
    ] {
        assert_eq!(request_of(payload), Err(violation), "{payload:x?}");
    }
    let mut known = KnownPaths::new(1);
    assert!(head::decode_request(b"\x01\x02/p", false, &mut known, 1024).is_ok());
    let second = head::decode_request(b"\x02\x02/q", false, &mut known, 1024);
    assert_eq!(second, Err(path(2, 1)), "beyond what is remembered");
    let long = [b"\x01\x81\x04/".to_vec(), vec![b'a'; 512]].concat();
    assert_eq!(
        request_of(&long),
        Err(Violation::Path),
        "513 bytes are not remembered"
    );
    let method = head::decode_request(b"\x01\x20\x00\x01/", true, &mut known, 1024);
    assert_eq!(method, Err(Violation::Method));
    let status = head::decode_answer(&[99, 0], true, 1024);
    assert_eq!(status, Err(Violation::HttpStatus));
    let many = [b"\x00\x01/".to_vec(), b"\x03\x00".repeat(30)].concat();
    assert_eq!(request_of(&many), Err(Violation::FieldsSize { max: 1024 }));
}

#[test]
fn reasons_and_windows_are_decoded() {
    let goaway = golden("goaway");
    assert_eq!(
        decode::reason(&goaway[HEADER_BYTES..]),
        Ok((0, "stopping".to_owned()))
    );
    assert_eq!(
        decode::window(&golden("window-call")[HEADER_BYTES..]),
        Ok(524_288)
    );
    let mut out = Out::default();
    out.reason(Kind::Cancel, 1, 2, &"ü".repeat(4096));
    let text = decode::reason(&out.single().unwrap()[HEADER_BYTES..])
        .unwrap()
        .1;
    assert_eq!(text.len(), TEXT_BYTES_MAX, "cut between characters");
}
