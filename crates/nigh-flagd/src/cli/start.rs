//! `start`: reads the sources, opens the listeners, serves until a signal.

use std::io;

use nigh::{Notifier, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use super::args::{Generation, StartArgs};
use super::config::{self, ConfigError};
use super::{Failure, listen};
use crate::eval::{Evaluator, Integers};
use crate::service::{Flagd, KEEP_ALIVE, Options, REQUEST_BYTES_MAX};
use crate::source::{Hub, Sources};

/// Time that running calls get after the first signal, as flagd has it.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Bytes of a request's body and headers where flagd would set no limit.
const BODY_BYTES_MAX: usize = 256 << 20;
const HEADER_BYTES_MAX: u32 = 1 << 20;

/// Connections per uid: in a pod all clients may be one user.
const CONNECTIONS_PER_UID_MAX: usize = 1024;

pub(super) async fn run(args: StartArgs, stands_in: bool) -> Result<(), Failure> {
    let settings = config::settle(args)?;
    let args = &settings.args;
    start_log(args)?;
    if settings.sources.is_empty() {
        return Err(Failure::NoSource);
    }
    // Before anybody can be told that we are ready: whoever hears it may send a signal at once.
    let (drain, cut) = stop_signals().map_err(Failure::Io)?;
    let telemetry = [
        &args.metrics_exporter,
        &args.otel_collector_uri,
        &args.otel_cert_path,
        &args.otel_key_path,
        &args.otel_ca_path,
        &args.otel_reload_interval,
    ];
    if telemetry.into_iter().any(Option::is_some) {
        tracing::warn!("OpenTelemetry export is not supported; Prometheus reads /metrics");
    }
    let generation = args.fractional.unwrap_or(Generation::V2);
    let integers = if args.lossless_integers {
        Integers::Lossless
    } else {
        Integers::Truncate
    };
    let hub = Hub::new(
        &settings.sources,
        Evaluator::new(generation.into(), integers)?,
    );
    // The first reading is done before anybody can connect.
    let sources = Sources::start(&settings.sources, &hub).await?;
    let flagd = Flagd::new(hub, options(&settings));
    let server = Server::new().limits(limits(args));
    let mut server = listen::listen(flagd.serve_on(server), args, stands_in).await?;
    if let Some(notifier) = Notifier::from_environment()? {
        server = server.notify(notifier);
    }
    let stopping = async {
        // An error means that the sender is gone, and with it the runtime.
        let _ = drain.await;
        tracing::info!("stopping");
        flagd.stop();
    };
    let drained = tokio::select! {
        drained = server.run(stopping) => Some(drained?),
        // Dropping the server closes everything at once.
        _ = cut => None,
    };
    drop(sources);
    match drained {
        Some(drained) if drained.cut_off > 0 => {
            tracing::warn!("{} connections were cut off", drained.cut_off);
        }
        Some(drained) if drained.is_replaced => tracing::info!("replaced by another daemon"),
        Some(_) => {}
        None => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(())
}

fn options(settings: &config::Settings) -> Options {
    let args = &settings.args;
    let headers = args.context_from_header.iter();
    Options {
        context: settings.context.clone(),
        context_from_headers: headers
            .map(|(header, key)| (header.to_ascii_lowercase(), key.clone()))
            .collect(),
        context_from_peer: args.context_from_peer.clone(),
        pins: args.pin.clone(),
        stream_deadline: args.stream_deadline.filter(|life| !life.is_zero()),
        keep_alive: KEEP_ALIVE,
        request_bytes_max: match args.max_request_body {
            None => REQUEST_BYTES_MAX,
            Some(0) => BODY_BYTES_MAX,
            Some(bytes) => bytes,
        },
        cors_origins: args.cors_origin.clone(),
        disable_sync_metadata: args.disable_sync_metadata,
    }
}

fn limits(args: &StartArgs) -> nigh::Limits {
    let mut limits = nigh::Limits::default();
    limits.connections.drain_time = DRAIN;
    limits.connections.connections_per_uid_max = CONNECTIONS_PER_UID_MAX;
    if let Some(bytes) = args.max_request_header {
        let bytes = if bytes == 0 { HEADER_BYTES_MAX } else { bytes };
        limits.http2.header_list_bytes_max = bytes;
        limits.http1.buffer_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX).max(8192);
    }
    limits
}

/// The log goes to standard error, as flagd's does.
fn start_log(args: &StartArgs) -> Result<(), ConfigError> {
    let level = if args.debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_env("NIGH_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .with_writer(io::stderr);
    // A log that somebody else has set up is as good.
    let _ = match args.log_format.as_deref() {
        None | Some("console") => log.try_init(),
        Some("json") => log.json().try_init(),
        Some(other) => {
            return Err(ConfigError::Value {
                setting: "log-format",
                value: other.to_owned(),
            });
        }
    };
    Ok(())
}

/// Completes the first receiver at the first SIGINT or SIGTERM, the second at the second.
fn stop_signals() -> io::Result<(oneshot::Receiver<()>, oneshot::Receiver<()>)> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (first, drain) = oneshot::channel();
    let (second, cut) = oneshot::channel();
    tokio::spawn(async move {
        for told in [first, second] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // The server may have ended by itself.
            let _ = told.send(());
        }
        // Later signals change nothing; the receivers stay so that they do not kill.
        std::future::pending::<()>().await;
    });
    Ok((drain, cut))
}
