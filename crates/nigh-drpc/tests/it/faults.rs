//! Peers that break rules, stall, vanish or flood: each costs itself alone.
#![expect(
    clippy::cast_possible_truncation,
    reason = "a helper's broken precondition is a failed test"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use nigh_drpc::wire::{Framing, Reason, Response, Status};
use nigh_drpc::{
    Accepts, BlockingClient, CallError, Client, ClientOptions, Module, Modules, Request, Server,
    Speaks, listener,
};
use nigh_socket::{Address, Policy};
use nigh_testkit::Child;

use crate::bytes_of::{body, packet, packets};
use crate::harness::{DESCRIPTORS, ECHO, LARGE, MODULE, Raw, TestServer, WAIT, blocking, call};
use crate::violations::cases;

const TIME: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_ends_its_own_connection_only() {
    let auto = TestServer::start();
    let chunked = TestServer::with(|server| server.accepts(Accepts::Only(Framing::Chunked)));
    for server in [auto, chunked] {
        let honest = server.client().await;
        for (name, packets, _) in cases() {
            let [first, later] = [server.raw(), server.raw()];
            let end = blocking(move || {
                let told = Response::unreadable().encode();
                for packet in &packets {
                    // An early packet may have ended it.
                    if first.socket.send(&[IoSlice::new(packet)], &[]).is_err() {
                        break;
                    }
                }
                let answer = first.recv();
                assert!(
                    answer.is_none() || answer == Some(told.to_vec()),
                    "{name}: {answer:?}"
                );
                // The same behind a good call, where the framing is known.
                later.call(&call(ECHO, 1, "x"));
                for packet in &packets {
                    if later.socket.send(&[IoSlice::new(packet)], &[]).is_err() {
                        break;
                    }
                }
                later.recv()
            });
            assert_eq!(end.await, None, "{name}");
            assert_eq!(honest.call(MODULE, ECHO, name).await.unwrap(), name);
        }
        let counts = server.counts();
        assert_eq!(counts.connections_admitted, 1 + 2 * cases().len() as u64);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_completed_is_cut_off() {
    let server = TestServer::with_limits(|limits| limits.message_time = TIME);
    let stalled = server.raw();
    let honest = server.client().await;
    let first = packets(&call(ECHO, 1, body(300_000)).encode()).remove(0);
    stalled.send(&first);
    assert_eq!(honest.call(MODULE, ECHO, "x").await.unwrap(), "x");
    assert_eq!(blocking(move || stalled.recv()).await, None);
    // An idle connection is none of it.
    assert_eq!(honest.call(MODULE, ECHO, "x").await.unwrap(), "x");
    assert_eq!(server.counts().connections_admitted, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_is_cut_off() {
    let server = TestServer::with_limits(|limits| limits.write_time = TIME);
    let deaf = server.raw();
    let honest = server.client().await;
    deaf.send_call(&call(LARGE, 1, "8000000"));
    assert_eq!(honest.call(MODULE, ECHO, "x").await.unwrap(), "x");
    // Its own sends fail once the connection is closed; it never reads.
    let failed = blocking(move || {
        loop {
            let packet = packets(&call(ECHO, 2, "x").encode()).remove(0);
            match deaf.socket.send(&[IoSlice::new(&packet)], &[]) {
                Ok(()) => {}
                Err(error) => return error,
            }
        }
    });
    let failed = failed.await;
    assert!(
        matches!(
            failed,
            nigh_socket::SendError::Closed | nigh_socket::SendError::Reset
        ),
        "{failed}"
    );
    assert_eq!(honest.call(MODULE, ECHO, "x").await.unwrap(), "x");
    server.stop().await;
}

#[test]
fn descriptors_that_nobody_has_room_for_fail_their_call_alone() {
    Child::test("faults::full_child").run().assert_success();
}

/// One thread, so that the table of descriptors is filled between the send and the receive.
#[tokio::test]
#[ignore = "runs as a child of descriptors_that_nobody_has_room_for_fail_their_call_alone"]
async fn full_child() {
    nigh_testkit::limit_descriptors(256);
    let server = TestServer::start();
    let client = server.client().await;
    client.call(MODULE, ECHO, "").await.unwrap();
    let open = || File::open("/dev/null");
    let files = |count| (0..count).map(|_| OwnedFd::from(open().unwrap())).collect();
    let call = client
        .request(MODULE, DESCRIPTORS)
        .descriptors(files(20))
        .send();
    let mut call = std::pin::pin!(call);
    let sent = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending()));
    assert!(sent.await);
    let mut hoard: Vec<File> = std::iter::from_fn(|| open().ok()).collect();
    hoard.truncate(hoard.len() - 3);
    let error = call.await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Status {
                reason: Some(Reason::DescriptorsLost),
                ..
            }
        ),
        "{error:?}"
    );
    drop(hoard);
    let again = client.request(MODULE, DESCRIPTORS).descriptors(files(20));
    assert_eq!(again.send().await.unwrap().descriptors.len(), 20);
    assert_eq!(server.counts().connections_admitted, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_a_user_are_counted_over_its_connections() {
    let server = TestServer::with_limits(|limits| limits.calls_per_uid_max = 3);
    let options = || ClientOptions::default().speaks(Speaks::Probe);
    let clients = [
        server.client_with(options()).await,
        server.client_with(options()).await,
    ];
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..3 {
        let client = clients[number % 2].clone();
        waiting.spawn(async move { client.call(MODULE, WAIT, "x").await });
    }
    while server.gate.waiting.load(Ordering::SeqCst) < 3 {
        server.gate.begun.notified().await;
    }
    for client in &clients {
        let error = client.call(MODULE, WAIT, "y").await.unwrap_err();
        assert!(
            matches!(
                error,
                CallError::Status {
                    status: Status::Failure,
                    reason: Some(Reason::Unavailable),
                    ..
                }
            ),
            "{error:?}"
        );
    }
    server.gate.open.add_permits(4);
    while let Some(done) = waiting.join_next().await {
        assert_eq!(done.unwrap().unwrap(), "x");
    }
    assert_eq!(clients[0].call(MODULE, WAIT, "z").await.unwrap(), "z");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_module_for_descriptors_none_are_agreed_on_or_let_in() {
    let place = nigh_testkit::TempSocket::private();
    let mut modules = Modules::new();
    let module =
        Module::new(MODULE, "plain").method(ECHO, "echo", async |call: Request| Ok(call.body));
    modules.register(module).unwrap();
    let bound = listener().bind(place.path()).unwrap();
    let can_refuse = bound.set_pass_rights(false).unwrap();
    let server = Server::new(modules).policy(Policy::any());
    let running = tokio::spawn(server.serve(bound));
    let address = Address::Path(place.path().to_owned());
    let client = Client::connect(address.clone(), ClientOptions::default());
    let client = client.await.unwrap();
    let file = || OwnedFd::from(File::open("/dev/null").unwrap());
    let request = client.request(MODULE, ECHO).descriptors(vec![file()]);
    let error = request.send().await.unwrap_err();
    assert!(matches!(error, CallError::NoDescriptors), "{error:?}");
    assert_eq!(client.call(MODULE, ECHO, "x").await.unwrap(), "x");
    let options = nigh_socket::ConnectOptions::default();
    let (socket, _) = nigh_socket::connect_packet(&address, &options)
        .await
        .unwrap();
    let sent = socket.try_send(&[IoSlice::new(b"x")], &[file().as_fd()]);
    let refused = matches!(sent, Err(nigh_socket::SendError::DescriptorsRefused));
    assert_eq!(refused, can_refuse, "{sent:?}");
    running.abort();
}

#[test]
fn a_thousand_connections_are_served() {
    Child::test("faults::thousand_child").run().assert_success();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as a child of a_thousand_connections_are_served"]
async fn thousand_child() {
    // A socket at each end and a pidfd each.
    nigh_testkit::limit_descriptors(4096);
    let mut limits = nigh_socket::Limits::default();
    limits.connections_max = 1100;
    limits.connections_per_uid_max = 1100;
    let server = TestServer::with(|server| server.connection_limits(limits));
    let address = server.address();
    let mut connections = Vec::new();
    for _ in 0..1000 {
        connections.push(
            Client::connect(address.clone(), ClientOptions::default())
                .await
                .unwrap(),
        );
    }
    for round in 0..3_u32 {
        let calls = connections.iter().enumerate().map(|(number, client)| {
            let (client, sent) = (client.clone(), format!("{round} {number}"));
            tokio::spawn(async move {
                assert_eq!(client.call(MODULE, ECHO, sent.clone()).await.unwrap(), sent);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
    }
    let counts = server.counts();
    assert_eq!(
        (counts.connections_admitted, counts.calls_handled),
        (1000, 3000)
    );
    drop(connections);
    assert_eq!(server.stop().await.cut_off, 0);
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// One peer that does what the dice say, until it leaves.
fn misbehave(raw: &Raw, mut dice: Dice) {
    let mut expected: VecDeque<i64> = VecDeque::new();
    for sequence in 1..=12 {
        let length = [0, 10, 5_000, 131_049, 400_000][dice.roll(5) as usize];
        let sent = packets(&call(ECHO, sequence, body(length)).encode());
        let send = |packet: &Vec<u8>| {
            let slice = IoSlice::new(packet);
            raw.socket.send(&[slice], &[]).is_ok()
        };
        match dice.roll(8) {
            // Leaves in the middle of a message.
            0 => {
                let part = dice.roll(sent.len() as u64) as usize;
                sent[..part].iter().all(send);
                return;
            }
            // Says something that is no chunk, or begins a message that does not go on, and waits for the end.
            1 => {
                let [total, length, index, data] = [9, 9, 3, 9].map(|sides| dice.roll(sides));
                send(&packet(total, length, index as u32, 2, data as usize));
                while raw.recv().is_some() {}
                return;
            }
            // Leaves without reading.
            2 => {
                sent.iter().all(send);
                return;
            }
            // Asks for more than it reads now, but not so much that both wait.
            3 if length < 10_000 && expected.len() < 4 => {
                if !sent.iter().all(send) {
                    return;
                }
                expected.push_back(sequence);
                continue;
            }
            _ => {
                if !sent.iter().all(send) {
                    return;
                }
                expected.push_back(sequence);
            }
        }
        while let Some(next) = expected.pop_front() {
            match raw.response() {
                Some(response) => assert_eq!(
                    (response.sequence, response.status),
                    (next, Status::Success)
                ),
                None => return,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_schedules_of_bad_peers_harm_nobody_else() {
    let server = TestServer::with_limits(|limits| {
        limits.message_time = TIME;
        limits.write_time = TIME;
    });
    let honest = server.client().await;
    let mut peers = tokio::task::JoinSet::new();
    for seed in 0..150 {
        let raw = server.raw();
        peers.spawn_blocking(move || misbehave(&raw, Dice(seed * 7919)));
    }
    for number in 0..200_u32 {
        let sent = body(number as usize * 500);
        assert_eq!(honest.call(MODULE, ECHO, sent.clone()).await.unwrap(), sent);
    }
    while let Some(done) = peers.join_next().await {
        done.unwrap();
    }
    assert_eq!(honest.call(MODULE, ECHO, "x").await.unwrap(), "x");
    assert_eq!(server.counts().connections_admitted, 151);
    assert_eq!(server.stop().await.cut_off, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deaf_caller_holds_back_itself_not_the_others() {
    let server = TestServer::start();
    let deaf = server.client().await;
    let address = server.address();
    // Sends without end and reads nothing: it comes to a halt in its own buffer.
    let raw = Arc::new(server.raw());
    let flooding = {
        let raw = Arc::clone(&raw);
        tokio::task::spawn_blocking(move || {
            let packet = packets(&call(LARGE, 1, "200000").encode()).remove(0);
            let slices = [IoSlice::new(&packet)];
            let mut sent = 0;
            while raw.socket.try_send(&slices, &[]).is_ok() || sent == 0 {
                sent += 1;
            }
            sent
        })
    };
    assert!(flooding.await.unwrap() < 10_000);
    blocking(move || {
        let mut client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
        for _ in 0..100 {
            assert_eq!(client.call(MODULE, ECHO, "x").unwrap(), "x");
        }
    })
    .await;
    assert_eq!(deaf.call(MODULE, ECHO, "x").await.unwrap(), "x");
    // What was read of the flood: one call at work, one ahead.
    assert!(server.counts().calls_handled < 200);
    drop(raw);
    server.stop().await;
}
