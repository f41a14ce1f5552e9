//! The byte vectors of docs/wire/descriptors.md, both ways.

use crate::fd::call::HANDLE_BASE;
use crate::fd::error::Loss;
use crate::fd::frame::{Fds, Frame, HEAD_BYTES, Hello, PING, PONG};

const VECTORS: &str = include_str!("../../../tests/golden/descriptors.txt");

/// The bytes of the vector of that name.
fn vector(name: &str) -> Vec<u8> {
    let lines = VECTORS.lines().filter(|line| !line.starts_with('#'));
    let mut lines = lines.filter_map(|line| line.split_once(':'));
    let (_, digits) = lines.find(|(its, _)| *its == name).unwrap();
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "{name}");
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(high << 4 | low).unwrap())
        .collect()
}

fn fds(first: u32, count: u16, loss: u8) -> Frame {
    Frame::Fds(Fds {
        call: 7,
        first,
        count,
        loss,
    })
}

fn hello(accepts: bool, calls: u32) -> Frame {
    Frame::Hello(Hello {
        accepts,
        per_message: 64,
        calls,
    })
}

#[test]
fn every_golden_frame_both_ways() {
    for (name, frame) in [
        ("hello-client", hello(true, 1024)),
        ("hello-server-takes-none", hello(false, 256)),
        ("fds", fds(2, 3, 0)),
        ("fds-of-a-handler", fds(HANDLE_BASE, 1, 0)),
        (
            "fds-too-many-in-flight",
            fds(2, 3, Loss::TooManyInFlight.code()),
        ),
        ("fds-not-permitted", fds(2, 3, Loss::NotPermitted.code())),
        ("fds-refused", fds(2, 3, Loss::SendFailed.code())),
        ("done", Frame::Done(7)),
    ] {
        assert_eq!(frame.encode(), vector(name), "{name}");
        let payload = &vector(name)[HEAD_BYTES..];
        assert_eq!(Frame::parse(payload), Ok(frame), "{name}");
    }
    assert_eq!(vector("ping"), PING);
    assert_eq!(vector("pong"), PONG);
}

#[test]
fn what_is_malformed_and_what_is_of_later_versions() {
    let names = VECTORS.lines().filter_map(|line| line.split_once(':'));
    let malformed: Vec<&str> = names
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("malformed-"))
        .collect();
    assert_eq!(malformed.len(), 8);
    for name in malformed {
        assert!(Frame::parse(&vector(name)).is_err(), "{name} [2.3]");
    }
    assert_eq!(Frame::parse(&vector("later-kind")), Ok(Frame::Unknown));
    assert_eq!(Frame::parse(&vector("later-hello")), Ok(hello(true, 1024)));
}
