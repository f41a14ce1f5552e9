//! Calls made over and over: one after the other by each of some workers, or at a rate whatever the answers do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use nigh::Channel;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::histogram::as_float;
use super::tally::{Tally, nanos};
use super::{BenchError, clock};

/// How long answers are waited for that are not there at the end.
const GRACE: Duration = Duration::from_secs(10);
/// Longest time of a measurement that ends with a number of calls.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// The call that is made.
#[derive(Debug)]
pub(crate) struct Load {
    /// Of the method.
    pub(crate) path: PathAndQuery,
    /// The encoded message.
    pub(crate) request: Bytes,
    pub(crate) metadata: MetadataMap,
    pub(crate) deadline: Option<Duration>,
}

/// When a measurement ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Time(Duration),
    Calls(u64),
}

/// How calls are made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As many workers, each with its next call when the last is answered.
    Closed { workers: usize },
    /// So many calls a second, and no more at once than this.
    Open { rate: f64, running_max: u32 },
}

/// Makes calls over these connections and says what became of them.
pub(crate) async fn run(
    load: &Arc<Load>,
    channels: &[Channel],
    pace: Pace,
    until: Until,
) -> Result<Tally, BenchError> {
    let start = Instant::now();
    let mut tally = match pace {
        Pace::Closed { workers } => closed(load, channels, workers, until).await,
        Pace::Open { rate, running_max } => {
            open(load, channels, (rate, running_max), until).await?
        }
    };
    tally.took = start.elapsed();
    Ok(tally)
}

type Shared = Arc<Mutex<Tally>>;

fn lock(tally: &Shared) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls that may still be begun.
struct Budget {
    calls: AtomicU64,
    end: Instant,
}

impl Budget {
    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        Instant::now() < self.end
            && self
                .calls
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok()
    }
}

async fn closed(load: &Arc<Load>, channels: &[Channel], workers: usize, until: Until) -> Tally {
    let (calls, time) = match until {
        Until::Time(time) => (u64::MAX, time),
        Until::Calls(calls) => (calls, TIME_MAX),
    };
    let budget = Arc::new(Budget {
        calls: AtomicU64::new(calls),
        end: Instant::now() + time,
    });
    let mut running = JoinSet::new();
    let mut tallies = Vec::new();
    for channel in channels.iter().cycle().take(workers) {
        let tally = Shared::default();
        tallies.push(Arc::clone(&tally));
        let (load, budget, mut caller) =
            (Arc::clone(load), Arc::clone(&budget), Caller::new(channel));
        running.spawn(async move {
            while budget.take() {
                lock(&tally).running += 1;
                let begun = Instant::now();
                let outcome = caller.call(&load).await;
                lock(&tally).ended(&outcome, begun.elapsed());
            }
        });
    }
    let all = async { while running.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(time + GRACE, all).await;
    if in_time.is_err() {
        running.shutdown().await;
    }
    let mut sum = Tally::default();
    for tally in &tallies {
        sum.merge(&lock(tally));
    }
    sum.give_up(0);
    sum
}

async fn open(
    load: &Arc<Load>,
    channels: &[Channel],
    (rate, running_max): (f64, u32),
    until: Until,
) -> Result<Tally, BenchError> {
    let (calls, time) = match until {
        Until::Time(time) => (whole(rate * time.as_secs_f64()), time),
        Until::Calls(calls) => (calls, Duration::from_secs_f64(as_float(calls) / rate)),
    };
    let permits = Arc::new(Semaphore::new(usize::try_from(running_max).unwrap_or(1)));
    let tally = Shared::default();
    let mut due = clock::start(rate, calls).map_err(BenchError::Clock)?;
    let mut running = JoinSet::new();
    let mut made = 0;
    let all = async {
        let mut turns = channels.iter().cycle();
        while let (Some(time), Some(channel)) = (due.recv().await, turns.next()) {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            made += 1;
            lock(&tally).late.count(nanos(time.elapsed()));
            lock(&tally).running += 1;
            let (load, tally, mut caller) =
                (Arc::clone(load), Arc::clone(&tally), Caller::new(channel));
            running.spawn(async move {
                let outcome = caller.call(&load).await;
                // From when it was due: a server that is slow is not spared the calls that wait for it.
                lock(&tally).ended(&outcome, time.elapsed());
                drop(permit);
            });
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
    };
    let in_time = tokio::time::timeout(time.min(TIME_MAX) + GRACE, all).await;
    if in_time.is_err() {
        running.shutdown().await;
    }
    let mut tally = std::mem::take(&mut *lock(&tally));
    tally.give_up(calls - made);
    Ok(tally)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is too large becomes the largest number, one below 0 becomes 0"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Who makes the calls.
struct Caller(Grpc<Channel>);

impl Caller {
    fn new(channel: &Channel) -> Self {
        Self(Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX))
    }

    async fn call(&mut self, load: &Load) -> Result<(), Status> {
        let mut request = Request::new(load.request.clone());
        *request.metadata_mut() = load.metadata.clone();
        if let Some(deadline) = load.deadline {
            request.set_timeout(deadline);
        }
        self.0.ready().await?;
        self.0.unary(request, load.path.clone(), Raw).await?;
        Ok(())
    }
}

/// Sends bytes as they are, and of an answer only looks how long it is: what messages cost is not measured.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = usize;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<usize>, Status> {
        let length = from.remaining();
        from.advance(length);
        Ok(Some(length))
    }
}
