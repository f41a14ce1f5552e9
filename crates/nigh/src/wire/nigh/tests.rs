//! The server against frames written by hand: violations, credit, cancel, ping, drain (clauses in brackets).

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::frame::head::{self, SentPaths};
use crate::frame::{Decoder, Header, Kind, Out, decode};
use crate::io::Transport;
use crate::server::{Standing, calls_for_tests};

struct Peer {
    stream: nigh_socket::UnixStream,
    decoder: Decoder,
    server: Greeting,
    serving: tokio::task::JoinHandle<Result<(), WireError>>,
}

const CLIENT: Greeting = Greeting {
    version: 7,
    features: 0xfffe,
    frame_bytes_max: 1024,
    header_bytes_max: 1024,
    stream_window: 1000,
    connection_window: 100_000,
    streams_max: 0,
    paths_max: 0,
    descriptors_max: 0,
};

/// The first call's stream.
const ONE: u32 = 0x0001_0000;

impl Peer {
    async fn with(standing: Standing, change: impl FnOnce(&mut NighLimits)) -> Self {
        let (ours, mut stream) = nigh_socket::UnixStream::pair().unwrap();
        let mut limits = crate::Limits::default();
        change(&mut limits.nigh);
        let session = Session {
            calls: calls_for_tests(standing),
            limits: Arc::new(limits),
            drain: None,
            hold: None,
        };
        let io = Io::new(
            Transport::Plain(crate::io::Socket::Bare(nigh_socket::Stream::Unix(ours))),
            None,
        );
        let serving = tokio::spawn(Nigh.serve(io, session));
        stream.write_all(&CLIENT.encode()).await.unwrap();
        let mut greeting = [0; greeting::BYTES];
        stream.read_exact(&mut greeting).await.unwrap();
        let (server, _) = Greeting::decode(&greeting).unwrap().unwrap();
        assert_eq!((server.version, server.features), (1, 0), "[2.4, 2.5]");
        Self {
            stream,
            decoder: Decoder::new(CLIENT.accepted(), BytesMut::new()),
            server,
            serving,
        }
    }

    async fn admitted() -> Self {
        Self::with(Standing::Admitted, |_| {}).await
    }

    async fn send(&mut self, make: impl FnOnce(&mut Out)) {
        let mut out = Out::default();
        make(&mut out);
        let bytes = out.single().unwrap().to_vec();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            if let Some(header) = self.decoder.frame().unwrap() {
                return Some((header, self.decoder.take().to_vec()));
            }
            if self.stream.read_buf(self.decoder.room()).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The goodbye that ends the connection, and what it says.
    async fn goodbye(mut self) -> (u32, String) {
        loop {
            let (header, payload) = self.receive().await.expect("a GOAWAY before the end");
            if header.kind == Kind::GoAway {
                assert!(self.receive().await.is_none(), "the end after a GOAWAY");
                return decode::reason(&payload).unwrap();
            }
        }
    }

    async fn violation(make: impl FnOnce(&mut Out)) -> String {
        let mut peer = Self::admitted().await;
        peer.send(make).await;
        let (code, text) = peer.goodbye().await;
        assert_eq!(code, 1, "[11.2] {text}");
        text
    }
}

fn request(out: &mut Out, stream: u32, flags: u8) {
    let mut fields = HeaderMap::new();
    fields.insert("te", HeaderValue::from_static("trailers"));
    fields.insert("content-type", HeaderValue::from_static("application/grpc"));
    out.frame(Kind::Headers, flags, stream, |out| {
        let request = (&Method::POST, "/hello", &fields);
        head::encode_request(request, 0, &mut SentPaths::new(0), out);
    });
}

#[tokio::test]
async fn a_call_is_answered_by_head_data_and_end() {
    let mut peer = Peer::admitted().await;
    assert_eq!(peer.server.streams_max, 256);
    peer.send(|out| request(out, ONE, crate::frame::END)).await;
    let (head, _) = peer.receive().await.unwrap();
    assert_eq!((head.kind, head.stream), (Kind::Headers, ONE));
    let (data, body) = peer.receive().await.unwrap();
    assert_eq!((data.kind, data.is_last()), (Kind::Data, true));
    assert_eq!(body, b"called /hello by 127.0.0.1:9\n");
    // The slot may be used again under another generation [4.1].
    peer.send(|out| request(out, ONE + 0x0001_0000, crate::frame::END))
        .await;
    assert_eq!(peer.receive().await.unwrap().0.stream, ONE + 0x0001_0000);
    drop(peer.stream);
    peer.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn pings_are_answered_and_unknown_kinds_skipped() {
    let mut peer = Peer::admitted().await;
    peer.send(|out| {
        out.frame(Kind::Ignorable(201), 0, 5, |out| {
            out.extend_from_slice(b"later")
        });
        out.ping(Kind::Ping, b"12345678");
    })
    .await;
    let (pong, payload) = peer.receive().await.unwrap();
    assert_eq!(
        (pong.kind, payload.as_slice()),
        (Kind::Pong, &b"12345678"[..])
    );
}

#[tokio::test]
async fn violations_are_named_and_end_the_connection() {
    let said = Peer::violation(|out| request(out, 300, 0)).await;
    assert!(said.contains("stream 300"), "generation 0 [4.1]: {said}");
    let said = Peer::violation(|out| request(out, ONE + 256, 0)).await;
    assert!(said.contains("256"), "a slot out of range [4.2]: {said}");
    let said = Peer::violation(|out| {
        request(out, ONE, 0);
        out.frame(Kind::Trailers, 0, ONE, |_| {});
    })
    .await;
    assert!(said.contains("Trailers"), "[4.3] {said}");
    let said = Peer::violation(|out| out.window(0, u32::MAX)).await;
    assert!(said.contains("credit"), "[8.3] {said}");
    let said = Peer::violation(|out| {
        out.frame(Kind::Fds, 0, ONE, |out| {
            out.extend_from_slice(&[0; 5]);
        });
    })
    .await;
    assert!(said.contains("descriptors"), "not agreed on [13.1]: {said}");
}

#[tokio::test]
async fn data_beyond_the_credit_is_a_violation() {
    let mut peer = Peer::with(Standing::Admitted, |limits| {
        limits.stream_window_bytes = 2000;
        limits.frame_bytes_max = 1024;
    })
    .await;
    peer.send(|out| {
        request(out, ONE, 0);
        // 2000 bytes of credit: two frames, and a third may begin while one byte is left.
        for _ in 0..3 {
            out.data(ONE, bytes::Bytes::from(vec![0; 999]), false);
        }
        out.data(ONE, bytes::Bytes::from_static(b"x"), false);
    })
    .await;
    // The handler of these calls answers without reading; until then the fourth frame is too much, after it it is late.
    while let Some((header, payload)) = peer.receive().await {
        if header.kind == Kind::GoAway {
            let (_, text) = decode::reason(&payload).unwrap();
            assert!(text.contains("credit"), "[8.4] {text}");
            return;
        }
        if header.is_last() {
            return;
        }
    }
}

#[tokio::test]
async fn a_refused_caller_is_answered_and_then_seen_off() {
    let standing = Standing::Refused {
        is_unseen: false,
        status: tonic::Status::permission_denied("no"),
        answered: Arc::default(),
    };
    let mut peer = Peer::with(standing, |_| {}).await;
    peer.send(|out| request(out, ONE, crate::frame::END)).await;
    let (head, payload) = peer.receive().await.unwrap();
    assert!(head.kind == Kind::Headers && head.is_last(), "[6.3]");
    let (_, fields) = head::decode_answer(&payload, head.is_plain(), 4096).unwrap();
    assert_eq!(fields["grpc-status"], "7");
    let (header, _) = peer.receive().await.unwrap();
    assert_eq!(header.kind, Kind::GoAway, "[1.2]");
    drop(peer.stream);
    peer.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_client_is_asked_and_then_left() {
    let limits = |limits: &mut NighLimits| {
        limits.keepalive = Some(std::time::Duration::from_millis(5));
        limits.keepalive_timeout = std::time::Duration::from_millis(5);
    };
    let mut peer = Peer::with(Standing::Admitted, limits).await;
    assert_eq!(peer.receive().await.unwrap().0.kind, Kind::Ping, "[10.1]");
    let (header, payload) = peer.receive().await.unwrap();
    assert_eq!(header.kind, Kind::GoAway);
    assert_eq!(decode::reason(&payload).unwrap().0, 2, "[10.2]");
    assert!(matches!(peer.serving.await.unwrap(), Err(WireError::Dead)));
}

#[test]
fn a_stream_in_use_is_not_opened_again() {
    let link = crate::link::Link::new((CLIENT, CLIENT), (), None);
    let mut state = link.lock();
    assert!(state.open(ONE, 1).is_ok());
    let twice = state.open(ONE + 0x0001_0000, 1).err();
    let stream = ONE + 0x0001_0000;
    assert_eq!(
        twice,
        Some(crate::frame::Violation::StreamInUse { stream }),
        "[4.2]"
    );
}
