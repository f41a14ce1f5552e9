//! The callers of each variant, and the clock that they are timed by.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nigh_drpc::{BlockingClient, Client, ClientOptions, Speaks};
use nigh_socket::Address;

use super::servers::{METHOD, MODULE};
use super::{Scenario, Variant, raw};
use crate::Failure;

/// How long each call took, in nanoseconds.
pub(super) type Times = Vec<u64>;

/// Times calls, after a warm-up that does not count.
pub(super) struct Clock {
    begins: Instant,
    ends: Instant,
    started: Instant,
    times: Times,
}

impl Clock {
    pub(super) fn start(time: Duration) -> Self {
        let now = Instant::now();
        let begins = now + time / 5;
        Self {
            begins,
            ends: begins + time,
            started: now,
            times: Times::new(),
        }
    }

    /// Begins a call, while there is time for one.
    pub(super) fn next(&mut self) -> bool {
        self.started = Instant::now();
        self.started < self.ends
    }

    pub(super) fn runs(&self) -> bool {
        self.started < self.ends
    }

    /// Ends the call that began last.
    pub(super) fn done(&mut self) {
        if self.started >= self.begins {
            let nanoseconds = self.started.elapsed().as_nanos();
            self.times
                .push(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn times(self) -> Times {
        self.times
    }
}

/// Calls for `time`; all callers' times.
pub(super) fn run(
    variant: Variant,
    scenario: Scenario,
    socket: &Path,
    time: Duration,
) -> Result<Times, Failure> {
    let address: Address = format!("unix:{}", socket.display()).parse()?;
    match variant {
        Variant::Raw => raw::run(socket, scenario, time),
        Variant::Blocking => blocking(address, scenario, time),
        Variant::Async | Variant::Go => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(calls(address, scenario, time))
        }
    }
}

/// Settled before the first call, so that many can be in flight where the server agrees.
fn options() -> ClientOptions {
    ClientOptions::default().speaks(Speaks::Probe)
}

fn blocking(address: Address, scenario: Scenario, time: Duration) -> Result<Times, Failure> {
    let mut client = BlockingClient::connect(address, options())?;
    let body = Bytes::from(vec![7; scenario.bytes]);
    let mut clock = Clock::start(time);
    while clock.next() {
        check(&client.call(MODULE, METHOD, body.clone())?, scenario)?;
        clock.done();
    }
    Ok(clock.times())
}

async fn calls(address: Address, scenario: Scenario, time: Duration) -> Result<Times, Failure> {
    let client = Client::connect(address, options()).await?;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..scenario.in_flight {
        callers.spawn(caller(client.clone(), scenario, time));
    }
    let mut all = Times::new();
    while let Some(times) = callers.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

async fn caller(client: Client, scenario: Scenario, time: Duration) -> Result<Times, Failure> {
    let body = Bytes::from(vec![7; scenario.bytes]);
    let mut clock = Clock::start(time);
    while clock.next() {
        check(&client.call(MODULE, METHOD, body.clone()).await?, scenario)?;
        clock.done();
    }
    Ok(clock.times())
}

fn check(answer: &Bytes, scenario: Scenario) -> Result<(), Failure> {
    if answer.len() == scenario.bytes {
        Ok(())
    } else {
        Err(format!("{} bytes where {} were sent", answer.len(), scenario.bytes).into())
    }
}
