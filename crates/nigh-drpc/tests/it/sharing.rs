//! One front for two protocols: dRPC packets and a byte stream share one quota, one policy and one drain.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::sync::Arc;

use nigh_drpc::wire::{Response, Status};
use nigh_drpc::{Server, listener};
use nigh_socket::{
    Address, ConnectOptions, Connection, Front, Limits, Listener, Policy, Protocol, Refused,
    Serving, connect,
};
use nigh_testkit::TempSocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use crate::harness::{ECHO, Gate, Raw, blocking, call, modules};

/// Says one word to each caller and holds it until it leaves, or the drain begins.
#[derive(Debug)]
struct Words;

impl Protocol for Words {
    fn serve(&self, connection: Connection) -> Serving {
        Box::pin(async move {
            let (transport, _, _, hold) = connection.into_parts();
            let mut stream = transport.into_stream().unwrap();
            let mut drain = hold.drain().unwrap();
            stream.write_all(b"admitted").await.unwrap();
            tokio::select! {
                _ = stream.read_u8() => {}
                _ = drain.begun() => {}
            }
        })
    }

    fn refuse(&self, refused: Refused) -> Serving {
        Box::pin(async move {
            let mut stream = refused.transport.into_stream().unwrap();
            let _ = stream.write_all(b"refused!").await;
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_protocol_and_drpc_share_quota_policy_and_drain() {
    let place = TempSocket::private();
    let words_at = Address::Path(place.join("words"));
    let drpc_at = Address::Path(place.join("drpc"));
    let mut limits = Limits::default();
    limits.connections_max = 2;
    let mut front = Front::new(limits, Arc::default());
    let counters = front.counters();
    let server = Server::new(modules(&Arc::new(Gate::default())));
    let drpc = server
        .into_protocol(front.counters(), Some(front.journal()))
        .unwrap();
    let words = Listener::options().bind(words_at.clone()).unwrap();
    front.listen(words, Policy::any(), Arc::new(Words));
    front.listen(
        listener().bind(drpc_at.clone()).unwrap(),
        Policy::any(),
        drpc,
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(front.run(async move {
        let _ = stopped.await;
    }));

    let word = async || {
        let (mut stream, _) = connect(&words_at, &ConnectOptions::default())
            .await
            .unwrap();
        let mut text = [0; 8];
        stream.read_exact(&mut text).await.unwrap();
        (stream, text)
    };
    let raw = async || {
        let at = drpc_at.clone();
        blocking(move || {
            let options = ConnectOptions::default();
            let (socket, _) = nigh_socket::blocking::connect_packet(&at, &options).unwrap();
            let raw = Raw::new(socket);
            let response = raw.call(&call(ECHO, 1, "x"));
            (raw, response)
        })
        .await
    };
    // One of each fills the quota, for both.
    let (first_stream, text) = word().await;
    assert_eq!(&text, b"admitted");
    let (first_raw, response) = raw().await;
    assert_eq!(response.body, "x");
    assert_eq!(&word().await.1, b"refused!");
    assert_eq!(raw().await.1, Response::new(1, Status::Failure));
    // A stream that leaves makes room for packets.
    drop(first_stream);
    let second_raw = loop {
        let (raw, response) = raw().await;
        if response.status == Status::Success {
            break raw;
        }
    };
    drop(stop);
    let ends = blocking(move || (first_raw.recv(), second_raw.recv())).await;
    assert_eq!(ends, (None, None));
    assert_eq!(running.await.unwrap().unwrap().cut_off, 0);
    let counts = counters.read();
    assert_eq!(counts.connections_admitted, 3);
    assert!(counts.connections_refused_by_quota >= 2);
    assert!(counts.calls_handled >= 2);
}
