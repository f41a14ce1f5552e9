//! Random schedules of calls, cancellations and slow readers on one connection: every call that is waited for ends right.
//!
//! The seed is in the name of what fails: `case(seed)` repeats it.

use std::pin::pin;

use nigh::{Channel, SharedMemory, Wire};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{DownloadRequest, Payload};
use tonic::Code;

use crate::common::{Served, payload};

/// Numbers that look random and come again (Steele and Vigna's splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % sides as u64).unwrap()
    }
}

/// Polls `call` a few times and gives it up, or waits for its end.
async fn perhaps<T>(dice: &mut Dice, call: impl Future<Output = T>) -> Option<T> {
    if dice.roll(3) > 0 {
        return Some(call.await);
    }
    let mut call = pin!(call);
    for _ in 0..dice.roll(4) {
        if let Some(ended) = futures_util::future::poll_immediate(call.as_mut()).await {
            return Some(ended);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn step(dice: &mut Dice, client: &mut TestClient<Channel>) {
    match dice.roll(4) {
        0 => {
            let data = vec![3; [0, 1, 500, 20_000, 300_000, 2_000_000][dice.roll(6)]];
            let sent = Payload { data };
            if let Some(reply) = perhaps(dice, client.echo(sent.clone())).await {
                assert_eq!(reply.unwrap().into_inner(), sent);
            }
        }
        1 => {
            let request = DownloadRequest {
                count: 40,
                bytes: 60_000,
            };
            let Some(replies) = perhaps(dice, client.download(request)).await else {
                return;
            };
            let mut replies = replies.unwrap().into_inner();
            let wanted = dice.roll(50);
            for number in 0..wanted {
                match replies.message().await.unwrap() {
                    Some(reply) => assert_eq!(usize::from(reply.data[0]), number),
                    None => return assert_eq!(number, 40),
                }
                if dice.roll(4) == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        2 => {
            let count = dice.roll(60);
            let pieces = (0..count).map(|_| Payload {
                data: vec![1; 50_000],
            });
            let up = client.upload(tokio_stream::iter(pieces));
            if let Some(reply) = perhaps(dice, up).await {
                assert_eq!(reply.unwrap().into_inner().bytes, 50_000 * count as u64);
            }
        }
        _ => {
            let mut request = tonic::Request::new(payload("held"));
            request.set_timeout(std::time::Duration::from_millis(1 + dice.roll(4) as u64));
            if let Some(ended) = perhaps(dice, client.hold(request)).await {
                assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded);
            }
        }
    }
}

async fn case(seed: u64, shared_memory: SharedMemory) {
    let shared = shared_memory.clone();
    let served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        limits.nigh.concurrent_calls_max = 5;
        limits.nigh.stream_window_bytes = 60_000;
        limits.nigh.connection_window_bytes = 150_000;
        limits.nigh.frame_bytes_max = 16_000;
        limits.nigh.shared_memory = shared;
        server.limits(limits)
    });
    let options = Channel::options().wire(Wire::Nigh).wait(false);
    let options = options.shared_memory(shared_memory);
    let channel = options.connect(served.address()).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..9 {
        let mut client = TestClient::new(channel.clone());
        callers.spawn(async move {
            let mut dice = Dice(seed * 1000 + caller);
            for _ in 0..25 {
                step(&mut dice, &mut client).await;
            }
        });
    }
    let all = async {
        while let Some(ended) = callers.join_next().await {
            ended.unwrap_or_else(|error| panic!("case({seed}): {error}"));
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), all).await;
    assert!(
        waited.is_ok(),
        "case({seed}) hangs: {:?}",
        served.service.runs()
    );
    TestClient::new(channel)
        .echo(payload("after"))
        .await
        .unwrap();
    assert_eq!(
        served.counts().connections_admitted,
        1,
        "case({seed}): it broke on the way"
    );
    let service = served.service.clone();
    served.stop().await;
    let runs = service.runs();
    assert_eq!(runs.started, runs.ended, "case({seed}): a handler is left");
}

#[tokio::test]
async fn random_schedules_on_one_thread() {
    for seed in 1..6 {
        case(seed, SharedMemory::off()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_schedules_on_two_threads() {
    for seed in 11..16 {
        case(seed, SharedMemory::off()).await;
    }
}

/// The smallest rings, so that both sides wait for room all the time.
fn small() -> SharedMemory {
    SharedMemory::on().ring_bytes(4096)
}

#[tokio::test]
async fn random_schedules_over_shared_memory_on_one_thread() {
    for seed in 21..26 {
        case(seed, small()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_schedules_over_shared_memory_on_two_threads() {
    for seed in 31..36 {
        case(seed, small()).await;
    }
}
