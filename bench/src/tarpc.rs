//! tarpc beside the others: its own service, bincode, and its transport over a Unix socket.

use std::path::Path;
use std::time::{Duration, Instant};

use tarpc::context;
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Bincode;
use tokio_stream::StreamExt as _;

use crate::client::{Times, nanoseconds};
use crate::{Failure, Scenario};

#[tarpc::service]
trait Plain {
    async fn echo(data: Vec<u8>) -> Vec<u8>;
}

#[derive(Debug, Clone)]
struct Echo;

impl Plain for Echo {
    async fn echo(self, _: context::Context, data: Vec<u8>) -> Vec<u8> {
        data
    }
}

/// Serves until the runtime ends.
pub(crate) async fn serve(socket: &Path) -> Result<(), Failure> {
    let mut incoming = tarpc::serde_transport::unix::listen(socket, Bincode::default).await?;
    while let Some(connection) = incoming.next().await {
        let Ok(connection) = connection else {
            // A caller that was gone before it was accepted.
            continue;
        };
        tokio::spawn(async move {
            let mut answers =
                Box::pin(BaseChannel::with_defaults(connection).execute(Echo.serve()));
            while let Some(answer) = answers.next().await {
                tokio::spawn(answer);
            }
        });
    }
    Ok(())
}

/// As the other variants' callers.
pub(crate) async fn calls(
    scenario: Scenario,
    socket: &Path,
    time: Duration,
) -> Result<Times, Failure> {
    let (connections, callers) = scenario.callers();
    let mut tasks = tokio::task::JoinSet::new();
    let begins = Instant::now() + time / 5;
    for _ in 0..connections {
        let transport = tarpc::serde_transport::unix::connect(socket, Bincode::default).await?;
        let client = PlainClient::new(tarpc::client::Config::default(), transport).spawn();
        for _ in 0..callers {
            tasks.spawn(caller(client.clone(), scenario, begins, time));
        }
    }
    let mut all = Times::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

async fn caller(
    client: PlainClient,
    scenario: Scenario,
    begins: Instant,
    time: Duration,
) -> Result<Times, Failure> {
    let payload = vec![7; scenario.bytes()];
    let mut times = Times::new();
    loop {
        let started = Instant::now();
        if started >= begins + time {
            return Ok(times);
        }
        client.echo(context::current(), payload.clone()).await?;
        if started >= begins {
            times.push(nanoseconds(started.elapsed()));
        }
    }
}
