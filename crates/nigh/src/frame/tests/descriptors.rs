//! Frames and greetings that speak of descriptors (clause 13).

use bytes::BytesMut;

use super::{ACCEPTED, client_greeting, golden, header};
use crate::frame::{Accepted, Decoder, Greeting, HEADER_BYTES, Kind, Violation, decode};

#[test]
fn frames_with_descriptors_are_read_where_both_agreed() {
    let agreed = Accepted {
        descriptors: true,
        ..ACCEPTED
    };
    let read = |bytes: &[u8]| Decoder::new(agreed, BytesMut::from(bytes)).frame();
    let bytes = golden("fds");
    let found = read(&bytes).unwrap().unwrap();
    assert_eq!((found.kind, found.descriptors), (Kind::Fds, 3));
    assert_eq!(decode::fds(&bytes[HEADER_BYTES..], 3), Ok((2, 0)));
    let count = |kind, count| Violation::Descriptors { kind, count };
    for (bytes, violation) in [
        (header(5, 1, 9, 0, 0), count(Kind::Fds, 0)),
        (header(5, 1, 9, 0, 254), count(Kind::Fds, 254)),
        (header(0, 1, 2, 0, 1), count(Kind::Data, 1)),
        (
            header(5, 0, 9, 0, 1),
            Violation::Place {
                kind: Kind::Fds,
                stream: 0,
            },
        ),
    ] {
        assert_eq!(read(&bytes), Err(violation), "[13.3]");
    }
    let first = u32::MAX;
    let beyond = decode::fds(&[0xff, 0xff, 0xff, 0xff, 0], 1);
    assert_eq!(beyond, Err(Violation::DescriptorIndex { first, count: 1 }));
    for (name, most) in [
        ("greeting-client-descriptors", 64),
        ("greeting-server-takes-none", 0),
    ] {
        let (greeting, length) = Greeting::decode(&golden(name)).unwrap().unwrap();
        assert_eq!((greeting.descriptors_max, length), (most, 44));
    }
    let mut short = client_greeting().encode();
    short[12] = 1;
    assert_eq!(
        Greeting::decode(&short),
        Err(Violation::GreetingLength { length: 40 }),
        "[2.5]"
    );
}

#[test]
fn the_next_frames_place_in_the_stream_is_known() {
    let bytes = [golden("data"), golden("ping"), golden("data")].concat();
    let mut decoder = Decoder::at(100, ACCEPTED, BytesMut::from(&bytes[..]));
    let mut places = Vec::new();
    while decoder.frame().unwrap().is_some() {
        places.push(decoder.offset());
        if places.len() == 2 {
            decoder.skip();
        } else {
            drop(decoder.take());
        }
    }
    assert_eq!(places, [100, 119, 139]);
    assert_eq!(decoder.offset(), 158);
}
