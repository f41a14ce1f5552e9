//! With many calls at once, a third of them given up and some messages large, every file is where it belongs.

use std::sync::Arc;
use std::time::Duration;

use nigh::{Channel, Descriptors, DescriptorsExt as _, Wire};
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::{Code, Request};

use super::service::{
    connect, generous, mentioned, message, name_of, named, on_both_wires, roomy, serve,
};

/// A call with a few files, at most 5; some are answered only when the test lets them.
async fn exchange(mut client: TestClient<Channel>, number: usize, holds: bool) {
    let names: Vec<String> = (0..number % 6)
        .map(|at| format!("call {number} file {at}"))
        .collect();
    let mut request = Request::new(Payload::default());
    let indices: Vec<_> = names
        .iter()
        .map(|name| request.attach(named(name)).unwrap())
        .collect();
    let length = if number.is_multiple_of(8) {
        300 * 1024
    } else {
        16
    };
    *request.get_mut() = message(&indices, length);
    let reply = if holds {
        client.hold(request).await
    } else {
        client.echo(request).await
    };
    let reply = reply.unwrap_or_else(|status| panic!("call {number}: {status}"));
    let back = mentioned(reply.get_ref());
    assert_eq!(back.len(), names.len());
    for (index, name) in back.iter().zip(&names) {
        assert_eq!(name_of(reply.take_fd(*index).unwrap()), *name);
    }
}

async fn storm(wire: Wire, calls: usize, at_once: usize) {
    let (served, mirror) = serve(roomy(), generous);
    let client = connect(&served, wire, roomy()).await;
    let places = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for number in 0..calls {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let cancelled = number.is_multiple_of(3);
        let call = exchange(client.clone(), number, cancelled);
        running.spawn(async move {
            let _place = place;
            if cancelled {
                // At various stages: before it is sent, on its way, in its handler.
                let patience = Duration::from_micros((number as u64 * 37) % 3000);
                tokio::time::timeout(patience, call).await.unwrap_err();
            } else {
                call.await;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    mirror.gate.add_permits(1_000_000);
    assert_eq!(
        served.counts().connections_admitted,
        1,
        "no GOAWAY on the way"
    );
    served.stop().await;
}

#[tokio::test]
async fn every_file_finds_its_call_on_one_thread() {
    storm(Wire::Nigh, 3000, 256).await;
    storm(Wire::Http2, 3000, 256).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_finds_its_call_on_two_threads() {
    storm(Wire::Nigh, 3000, 256).await;
    storm(Wire::Http2, 3000, 256).await;
}

/// CI asks for 100,000 calls by `NIGH_TEST_CALLS`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_into_another_call_of_sixty_four() {
    let calls = super::leaks::calls(2000);
    storm(Wire::Nigh, calls, 64).await;
    storm(Wire::Http2, calls, 64).await;
}

async fn calls_in_flight_that_are_all_cancelled_do_not_end_the_connection(wire: Wire) {
    let (served, mirror) = serve(roomy(), generous);
    let mut client = connect(&served, wire, roomy()).await;
    for _ in 0..3 {
        let mut held = JoinSet::new();
        for number in 0..256_usize {
            let mut client = client.clone();
            held.spawn(async move {
                let fds = Descriptors::new();
                let index = fds.attach(named(&number.to_string())).unwrap();
                let mut request = Request::new(message(&[index], 0));
                request.extensions_mut().insert(fds);
                client.hold(request).await
            });
        }
        mirror.holding.acquire_many(256).await.unwrap().forget();
        held.shutdown().await;
        client.echo(message(&[], 0)).await.unwrap();
    }
    assert_eq!(served.counts().connections_admitted, 1);
    served.stop().await;
}

#[tokio::test]
async fn a_reset_flood_ends_its_connection() {
    let (served, _) = serve(roomy(), generous);
    let mut good = connect(&served, Wire::Http2, roomy()).await;
    let mut stream = tokio::net::UnixStream::connect(served.socket.path())
        .await
        .unwrap();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1..6000_u32).step_by(2) {
        // POST / over http, then CANCEL.
        flood.extend(b"\0\0\x03\x01\x04");
        flood.extend(stream.to_be_bytes());
        flood.extend(b"\x83\x86\x84\0\0\x04\x03\0");
        flood.extend(stream.to_be_bytes());
        flood.extend(8_u32.to_be_bytes());
    }
    // The server may have left before it has read all.
    let _ = stream.write_all(&flood).await;
    let mut said = Vec::new();
    let reading = stream.read_to_end(&mut said);
    let _ended = tokio::time::timeout(Duration::from_secs(9), reading)
        .await
        .unwrap();
    let goaway = said.windows(4).any(|head| head == b"\x07\0\0\0");
    let calm = said.windows(4).any(|code| code == 0xb_u32.to_be_bytes());
    assert!(goaway && calm, "GOAWAY with ENHANCE_YOUR_CALM");
    good.echo(message(&[], 0)).await.unwrap();
    served.stop().await;
}

async fn a_call_with_files_goes_over_a_new_connection_when_the_old_one_broke(wire: Wire) {
    let (served, _) = serve(roomy(), generous);
    let mut client = connect(&served, wire, roomy()).await;
    exchange(client.clone(), 5, false).await;
    let (socket, _) = {
        let mut served = served;
        served.begin_stop();
        served.leave().await
    };
    let listener = crate::common::bind(&socket, 0o600);
    let mirror = super::service::Mirror::default();
    let service = nigh_testkit::service::proto::test_server::TestServer::new(mirror);
    let served = crate::common::Served::of(socket, listener, |server| {
        server
            .service(service)
            .receive_descriptors(super::service::NAME, roomy())
    });
    exchange(client.clone(), 5, false).await;
    let status = client
        .fail(nigh_testkit::service::proto::FailRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    served.stop().await;
}

on_both_wires! {
    calls_in_flight_that_are_all_cancelled_do_not_end_the_connection,
    a_call_with_files_goes_over_a_new_connection_when_the_old_one_broke,
}
