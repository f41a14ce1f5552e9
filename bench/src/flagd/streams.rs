//! From the rename of a file to the event in the hands of every listener.

use nigh::Channel;
use nigh_flagd::service::proto::evaluation::v2::EventStreamRequest;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use tokio::sync::mpsc;

use super::daemon::Daemon;
use super::{document, row, spread};
use crate::Failure;

/// Renames that are counted, after one that is not: odd, so that the flag ends as it began.
const RENAMES: usize = 21;

/// Streams on one connection.
const SHARING: usize = 100;

/// Renames with `count` streams that listen; the time until the last of them has heard.
pub(super) async fn renames(daemon: &Daemon, count: usize) -> Result<(), Failure> {
    let (heard, mut last) = mpsc::unbounded_channel();
    let mut listeners = tokio::task::JoinSet::new();
    let address = nigh::Address::Path(daemon.socket());
    let mut channel = Channel::connect(address.clone()).await?;
    for number in 1..=count {
        if number % SHARING == 0 {
            channel = Channel::connect(address.clone()).await?;
        }
        let mut client = ServiceClient::new(channel.clone());
        let stream = client.event_stream(EventStreamRequest {}).await?;
        let mut stream = stream.into_inner();
        stream.message().await?;
        let heard = heard.clone();
        listeners.spawn(async move {
            while let Ok(Some(event)) = stream.message().await {
                if event.r#type == "configuration_change"
                    && heard.send(std::time::Instant::now()).is_err()
                {
                    return;
                }
            }
        });
    }
    let mut times = Vec::new();
    for round in 0..=RENAMES {
        let document = document(99, if round % 2 == 0 { "b" } else { "a" });
        let renamed = daemon.replace(&document)?;
        let mut end = renamed;
        for _ in 0..count {
            end = end.max(last.recv().await.ok_or("a stream ended")?);
        }
        if round > 0 {
            times.push(end - renamed);
        }
    }
    row(
        &format!("rename to configuration_change, {count} streams, the last one"),
        &spread(times),
    );
    let memory = f64::from(daemon.memory_kib()?) / 1024.0;
    row(
        &format!("memory of the daemon with {count} streams, 100 flags"),
        &format!("{memory:.1} MiB"),
    );
    Ok(())
}
