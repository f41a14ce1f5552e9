//! After very many calls that went well, failed or were given up, both processes hold what they held before.

use std::sync::Arc;
use std::time::Duration;

use nigh::{Channel, DescriptorsExt as _};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{FailRequest, Payload};
use nigh_testkit::{Child, OpenFds};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Request;

use super::service::{generous, mentioned, message, named, roomy, serve, wire_of_child};

/// Calls of this run: CI asks for 100,000 by `NIGH_TEST_CALLS`.
pub(super) fn calls(usually: usize) -> usize {
    match std::env::var("NIGH_TEST_CALLS") {
        Ok(count) => count.parse().unwrap(),
        Err(_) => usually,
    }
}

/// Numbers without a pattern, the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

async fn one(mut client: TestClient<Channel>, mut dice: Dice) {
    let mut request = Request::new(Payload::default());
    let files = dice.roll(6);
    let indices: Vec<_> = (0..files)
        .map(|_| request.attach(named("leak")).unwrap())
        .collect();
    *request.get_mut() = message(&indices, 0);
    let patience = Duration::from_micros(dice.roll(2000));
    match dice.roll(6) {
        0 => {
            let mut failing = request.map(|_| FailRequest::default());
            failing.set_timeout(Duration::from_secs(20));
            client.fail(failing).await.unwrap_err();
        }
        1 | 2 => drop(tokio::time::timeout(patience, client.hold(request)).await),
        3 => drop(client.echo(request).await),
        // It mentions what was never attached.
        4 => {
            *request.get_mut() = message(&[7777.into()], 0);
            client.echo(request).await.unwrap_err();
        }
        _ => {
            let reply = client.echo(request).await.unwrap();
            for index in mentioned(reply.get_ref()) {
                drop(reply.take_fd(index).unwrap());
            }
        }
    }
}

/// Waits until what is open is what was, for as long as the closing threads may take.
async fn settled(before: &OpenFds) {
    for _ in 0..200 {
        if before.difference(&OpenFds::now()).is_empty() {
            return;
        }
        let moment = tokio::time::timeout(Duration::from_millis(25), std::future::pending::<()>());
        moment.await.unwrap_err();
    }
    before.assert_unchanged();
}

/// The server's process starts the caller's.
fn both(wire: &str) {
    let child = Child::test("fds::leaks::server").env("NIGH_TEST_WIRE", wire);
    child.run().assert_success();
}

#[test]
fn nothing_leaks_on_either_side() {
    both("nigh");
}

#[test]
fn nothing_leaks_on_either_side_over_http2() {
    both("http2");
}

#[tokio::test]
#[ignore = "runs as a child of nothing_leaks_on_either_side"]
async fn server() {
    let (served, _) = serve(roomy(), generous);
    let before = OpenFds::now();
    let child = Child::test("fds::leaks::caller")
        .env("NIGH_TEST_SERVER", served.socket.address())
        .env(
            "NIGH_TEST_WIRE",
            nigh_testkit::child_variable("NIGH_TEST_WIRE"),
        );
    child.run_async().await.assert_success();
    settled(&before).await;
    served.stop().await;
}

#[tokio::test]
#[ignore = "runs as a child of nothing_leaks_on_either_side"]
async fn caller() {
    let address = nigh_testkit::child_variable("NIGH_TEST_SERVER");
    let options = Channel::options()
        .wire(wire_of_child())
        .descriptors(roomy());
    let client = TestClient::new(options.connect(address.as_str()).await.unwrap());
    // Connected, and nothing of it still to be closed.
    let mut first = client.clone();
    first.echo(message(&[], 0)).await.unwrap();
    let before = OpenFds::now();
    let places = Arc::new(Semaphore::new(64));
    let mut running = JoinSet::new();
    for number in 0..calls(5000) as u64 {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let call = one(client.clone(), Dice(number * 2 + 1_000_003));
        running.spawn(async move {
            let _place = place;
            call.await;
        });
        while let Some(ended) = running.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    settled(&before).await;
}
