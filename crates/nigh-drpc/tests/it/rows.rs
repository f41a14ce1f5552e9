//! Several messages in one packet: by agreement only, in every mixture, and no way around a limit. drpc §9.9
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::sync::atomic::Ordering;

use nigh_drpc::wire::{Call, CallExtensions, Chunk, Chunks, Features, Response, first_chunk};
use nigh_drpc::{ClientOptions, Speaks};

use crate::bytes_of::{body, packets};
use crate::harness::{ECHO, MODULE, Raw, TestServer, WAIT, blocking, call};

/// The first call of a connection, which offers rows and pipelining.
fn offer(raw: &Raw) -> Response {
    let features = Features::from_bits(Features::ROWS.bits() | Features::PIPELINING.bits());
    raw.call(&Call {
        extensions: CallExtensions {
            features,
            ..CallExtensions::default()
        },
        ..call(ECHO, 1, "")
    })
}

fn row(calls: &[Call]) -> Vec<u8> {
    let packets = calls.iter().flat_map(|call| packets(&call.encode()));
    packets.collect::<Vec<_>>().concat()
}

/// The responses of the next packet.
fn responses(raw: &Raw) -> Vec<Response> {
    let packet = raw.recv().unwrap();
    let mut rest = &packet[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (chunk, behind) = first_chunk(rest);
        let message = nigh_drpc::wire::Assembler::new(1 << 20).push(chunk);
        found.push(Response::decode(&message.unwrap().unwrap()).unwrap());
        rest = behind;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_answered_by_a_row_where_it_was_agreed_on() {
    let server = TestServer::start();
    let raw = server.raw();
    blocking(move || {
        let granted = offer(&raw).extensions.features;
        assert!(granted.has(Features::ROWS));
        let calls = [2, 3, 4].map(|sequence| call(ECHO, sequence, "x"));
        raw.send(&row(&calls));
        let sequences: Vec<i64> = responses(&raw).iter().map(|it| it.sequence).collect();
        assert_eq!(sequences, [2, 3, 4]);
    })
    .await;
    // Nobody else may send one: the packet's length is not what its header says.
    let raw = server.raw();
    blocking(move || {
        raw.call(&call(ECHO, 1, ""));
        raw.send(&row(&[call(ECHO, 2, "x"), call(ECHO, 3, "x")]));
        assert_eq!(raw.recv(), None);
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_large_messages_share_packets_with_small_ones() {
    let server = TestServer::start();
    let raw = server.raw();
    blocking(move || {
        offer(&raw);
        let large = call(ECHO, 3, body(1000));
        let chunks = Chunks::with_data_max(large.encode(), 600);
        let joined = |Chunk { header, data }: Chunk| [&header[..], &data.to_bytes()].concat();
        let chunks: Vec<Vec<u8>> = chunks.map(joined).collect();
        raw.send(&[&row(&[call(ECHO, 2, "x")])[..], &chunks[0]].concat());
        assert_eq!(responses(&raw)[0].sequence, 2);
        raw.send(&[&chunks[1][..], &row(&[call(ECHO, 4, "y")])].concat());
        let found = responses(&raw);
        assert_eq!((found[0].sequence, found[1].sequence), (3, 4));
        assert_eq!(found[0].body, body(1000));
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_does_not_widen_the_window() {
    let server = TestServer::with_limits(|limits| limits.calls_in_flight_max = 4);
    server.gate.open.add_permits(500);
    let raw = server.raw();
    blocking(move || {
        offer(&raw);
        let calls: Vec<Call> = (2..502).map(|sequence| call(WAIT, sequence, "x")).collect();
        for calls in calls.chunks(250) {
            raw.send(&row(calls));
        }
        let mut sequences = Vec::new();
        while sequences.len() < 500 {
            sequences.extend(responses(&raw).iter().map(|it| it.sequence));
        }
        sequences.sort_unstable();
        assert!(sequences.into_iter().eq(2..502));
    })
    .await;
    assert!(server.gate.waiting_max.load(Ordering::SeqCst) <= 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_a_rule_ends_its_connection_only() {
    let server = TestServer::start();
    let (raw, other) = (server.raw(), server.raw());
    blocking(move || {
        offer(&raw);
        let mut torn = row(&[call(ECHO, 2, "x"), call(ECHO, 3, "y")]);
        torn.pop();
        raw.send(&torn);
        while let Some(packet) = raw.recv() {
            assert!(packet.len() < torn.len());
        }
        assert_eq!(other.call(&call(ECHO, 1, "z")).body, "z");
    })
    .await;
    server.stop().await;
}

/// Small and large, at once, from many tasks: every answer is its call's.
#[tokio::test(flavor = "multi_thread")]
async fn clients_share_packets_without_mixing_answers() {
    let server = TestServer::start();
    let options = ClientOptions::default().speaks(Speaks::Probe);
    let client = server.client_with(options).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..80_usize {
        let client = client.clone();
        callers.spawn(async move {
            for turn in 0..20_usize {
                let sent = body(match (caller + turn) % 16 {
                    0 => 200_000 + caller,
                    1 => 9_000 + caller,
                    size => size * 40 + caller,
                });
                let got = client.call(MODULE, ECHO, sent.clone()).await.unwrap();
                assert!(got == sent, "caller {caller} turn {turn}");
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(server.counts().connections_admitted, 1);
    server.stop().await;
}
