//! The rows that put the nigh wire beside HTTP/2, on the same socket of the same server process.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tonic::Status;

use super::Done;
use super::rows::{UNARY_CALLS, summary};
use super::stage::Stage;
use crate::call::Caller;
use crate::diag::pb::diag_client::DiagClient;
use crate::diag::pb::{EchoRequest, WhoAmIRequest};
use crate::error::Failure;

/// Calls under way at the same time, and rounds of them.
const AT_ONCE: u32 = 64;
const ROUNDS: u32 = 16;

/// Small calls, each after the answer to the last.
pub(super) async fn one_by_one<T: Caller>(mut client: DiagClient<T>) -> Result<Done, Failure> {
    let mut times = Vec::new();
    for _ in 0..UNARY_CALLS {
        let start = Instant::now();
        client.echo(EchoRequest::default()).await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let wire = wire(&mut client).await?;
    Ok(Done {
        caller: summary(client).await?,
        result: format!("{UNARY_CALLS} answered over {wire}; this is the median of one"),
        time: times[times.len() / 2],
    })
}

/// Small calls that come together.
pub(super) async fn at_once<T: Caller>(mut client: DiagClient<T>) -> Result<Done, Failure> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(together(&client).await?);
    }
    times.sort_unstable();
    let wire = wire(&mut client).await?;
    let calls = AT_ONCE * ROUNDS;
    Ok(Done {
        caller: summary(client).await?,
        result: format!("{calls} answered over {wire}; this is one of {AT_ONCE}"),
        time: times[times.len() / 2] / AT_ONCE,
    })
}

/// One round; the time until its last answer.
async fn together<T: Caller>(client: &DiagClient<T>) -> Result<Duration, Failure> {
    let start = Instant::now();
    let calls = (0..AT_ONCE).map(|_| {
        let mut client = client.clone();
        async move { client.echo(EchoRequest::default()).await }
    });
    try_join_all(calls).await?;
    Ok(start.elapsed())
}

/// A stock client, nigh's over HTTP/2 and nigh's on the nigh wire, side by side.
pub(super) async fn mixed(stage: &Stage) -> Result<Done, Failure> {
    let (mut stock, mut http2, mut nigh) =
        (stage.stock.clone(), stage.http2.clone(), stage.nigh.clone());
    let start = Instant::now();
    tokio::try_join!(together(&stock), together(&http2), together(&nigh))?;
    let time = start.elapsed();
    let wires = tokio::try_join!(wire(&mut stock), wire(&mut http2), wire(&mut nigh))?;
    if (wires.0.as_str(), wires.1.as_str(), wires.2.as_str()) != ("http/2", "http/2", "nigh") {
        return Err(Status::internal(format!("the wires are {wires:?}")).into());
    }
    Ok(Done {
        caller: summary(nigh).await?,
        result: format!("{} answered, over http/2, http/2 and nigh", 3 * AT_ONCE),
        time,
    })
}

/// The wire by the server's word.
async fn wire<T: Caller>(client: &mut DiagClient<T>) -> Result<String, Failure> {
    let reply = client.who_am_i(WhoAmIRequest {}).await?;
    Ok(reply.into_inner().wire)
}
