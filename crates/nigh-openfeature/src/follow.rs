//! Follows the daemon's stream of events for as long as the provider lives, and finds it again when it is gone.

use std::sync::Arc;
use std::time::Duration;

use nigh::Channel;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, Streaming};

use crate::convert;
use crate::options::Options;
use crate::proto::service_client::ServiceClient;
use crate::proto::{EventStreamRequest, EventStreamResponse};
use crate::shared::{Shared, Standing};

/// A daemon says every 20 s that it lives; one that is silent for this long does not.
const SILENCE_MAX: Duration = Duration::from_secs(65);

/// Follows for ever, or until a status that is fatal.
pub(crate) async fn run(shared: Arc<Shared>, client: ServiceClient<Channel>) {
    tokio::select! {
        () = streams(&shared, client) => {}
        () = patience(&shared) => {}
    }
}

/// The grace between stale and in error, as often as it begins.
async fn patience(shared: &Shared) {
    let mut standing = shared.standing.subscribe();
    // An error means that the provider is gone.
    while standing
        .wait_for(|standing| *standing == Standing::Stale)
        .await
        .is_ok()
    {
        let changed = standing.wait_for(|standing| *standing != Standing::Stale);
        if timeout(shared.options.retry_grace, changed).await.is_err() {
            shared.give_up(Standing::Stale);
        }
    }
}

async fn streams(shared: &Shared, mut client: ServiceClient<Channel>) {
    let options = &shared.options;
    let mut wait = None;
    loop {
        let status = match stream(shared, &mut client, &mut wait).await {
            Ok(never) => match never {},
            Err(status) => status,
        };
        shared.failed(&status);
        if options.fatal.contains(&status.code()) {
            shared.end(&status);
            return;
        }
        // Its age alone is no reason to doubt the daemon.
        if status.code() != Code::DeadlineExceeded || wait.is_some() {
            shared.lost();
        }
        // The first try is made at once: a daemon that was replaced is there already.
        if let Some(wait) = wait {
            sleep(wait).await;
        }
        wait = Some(longer(wait, options));
    }
}

/// The wait after this one.
fn longer(wait: Option<Duration>, options: &Options) -> Duration {
    let wait = wait.map_or(options.retry_backoff, |wait| wait.saturating_mul(2));
    wait.min(options.retry_backoff_max)
}

/// One stream, to its end.
async fn stream(
    shared: &Shared,
    client: &mut ServiceClient<Channel>,
    wait: &mut Option<Duration>,
) -> Result<std::convert::Infallible, Status> {
    let mut request = Request::new(EventStreamRequest {});
    let options = &shared.options;
    if !options.stream_deadline.is_zero() {
        request.set_timeout(options.stream_deadline);
    }
    select_flags(&options.selector, &mut request)?;
    let mut stream = client.event_stream(request).await?.into_inner();
    loop {
        let event = next(&mut stream).await?;
        *wait = None;
        match event.r#type.as_str() {
            "provider_ready" => shared.ready(),
            "configuration_change" => shared.changed(convert::changed(event.data)),
            "provider_shutdown" => return Err(Status::unavailable("the flag daemon stops")),
            // Signs of life, and what later versions may say.
            _ => {}
        }
    }
}

async fn next(stream: &mut Streaming<EventStreamResponse>) -> Result<EventStreamResponse, Status> {
    let silent = || Status::unavailable("the flag daemon is silent");
    let event = timeout(SILENCE_MAX, stream.message()).await;
    let event = event.map_err(|_| silent())??;
    event.ok_or_else(|| Status::unavailable("the flag daemon ended its stream"))
}

/// Says which flags a request is about.
pub(crate) fn select_flags<M>(selector: &str, request: &mut Request<M>) -> Result<(), Status> {
    if !selector.is_empty() {
        let value = selector.parse();
        let value =
            value.map_err(|_| Status::invalid_argument("no header can carry the selector"))?;
        request.metadata_mut().insert("flagd-selector", value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let options = Options {
            retry_backoff: Duration::from_secs(2),
            ..Options::default()
        };
        let waits = std::iter::successors(Some(longer(None, &options)), |wait| {
            Some(longer(Some(*wait), &options))
        });
        let waits: Vec<u64> = waits.take(4).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [2, 4, 5, 5]);
        let options = Options {
            retry_backoff: Duration::from_secs(9),
            ..options
        };
        assert_eq!(longer(None, &options), Duration::from_secs(5));
    }
}
