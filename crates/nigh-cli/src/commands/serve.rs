//! `nigh serve`: the diagnostic service on any number of addresses, until it is told to stop.

use std::io;
use std::sync::Arc;

use nigh::{Address, Existing, Listener, Policy, Server};
use nigh_socket::{Listen, Role};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::ServeArgs;
use crate::diag::pb::diag_server::DiagServer;
use crate::diag::{Counters, Diag, FILE_DESCRIPTOR_SET, ServerCounts};
use crate::error::Failure;
use crate::output::{self, Manner, Style, When};

/// A role that this server does not play.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {listen}: only streams are served so far")]
pub struct NotServed {
    listen: Listen,
}

/// Runs `nigh serve`.
pub(crate) async fn run(args: ServeArgs, when: When) -> Result<(), Failure> {
    // Before anybody is told that we are ready: whoever reads that may send a signal at once.
    let (drain, cut) = stop_signals()?;
    let mut server = Server::new()
        .policy(args.allow.clone())
        .limits(limits(&args))
        .health()
        .reflection(FILE_DESCRIPTOR_SET);
    let counters = server.counters();
    let counters = Counters::new(move || counts(&counters));
    server = server.service(DiagServer::new(Diag::new(counters)));
    for guard in &args.guard {
        server = server.guard(&guard.method, guard.policy.clone());
    }
    for listen in &args.addresses {
        let listener = bind(listen, &args)?;
        announce(listener.address(), args.json, when)?;
        server = server.listen(listener);
    }
    advise(&args, when);
    let drained = async {
        tokio::select! {
            // An error means that the sender is gone, and with it the runtime.
            _ = drain => {}
            () = end_of_stdin(), if args.until_eof => {}
        }
    };
    let ended = tokio::select! {
        ended = server.run(drained) => Some(ended?),
        // Dropping the server closes everything at once.
        _ = cut => None,
    };
    match ended {
        Some(drained) if drained.cut_off > 0 => {
            let text = format!("{} connections were cut off", drained.cut_off);
            output::note(when, &text);
        }
        Some(_) => {}
        None => output::note(when, "stopped at once by a second signal"),
    }
    Ok(())
}

fn limits(args: &ServeArgs) -> nigh::Limits {
    let mut limits = nigh::Limits::default();
    limits.connections.drain_time = args.drain;
    limits
}

fn bind(listen: &Listen, args: &ServeArgs) -> Result<Listener, Failure> {
    if listen.role != Role::Stream {
        return Err(NotServed {
            listen: listen.clone(),
        }
        .into());
    }
    let mut options = Listener::options().existing(if args.replace {
        Existing::TakeOver
    } else {
        Existing::ReplaceStale
    });
    if let Some(mode) = args.mode {
        options = options.mode(mode);
    }
    if let Some(owner) = &args.owner {
        options = options.owner(owner);
    }
    if let Some(group) = &args.group {
        options = options.group(group);
    }
    Ok(options.bind(listen.address.clone())?)
}

/// A policy that lets others in does not open the socket file to them.
fn advise(args: &ServeArgs, when: When) {
    let mut addresses = args.addresses.iter().map(|listen| &listen.address);
    let has_file = addresses.any(|address| matches!(address, Address::Path(_)));
    let own = args.allow == Policy::same_user() || args.allow == Policy::none();
    if has_file && args.mode.is_none() && !own {
        output::note(
            when,
            "note: only this user can open the socket file; --mode opens it to those whom --allow admits",
        );
    }
}

fn announce(address: &Address, as_json: bool, when: When) -> io::Result<()> {
    if as_json {
        let pid = std::process::id();
        return output::print_json(&json!({"listening": address.to_string(), "pid": pid}));
    }
    let address = Manner::stdout(when).paint(Style::Strong, &address.to_string());
    output::print(&format!("listening on {address}\n"))
}

fn counts(counters: &Arc<nigh::Counters>) -> ServerCounts {
    let counts = counters.read();
    ServerCounts {
        connections_accepted: counts.connections_admitted,
        connections_refused: counts.connections_refused_by_policy
            + counts.connections_refused_by_quota
            + counts.connections_refused_draining,
        calls_refused: counts.calls_refused_by_guard,
    }
}

/// Completes the first receiver at the first SIGINT or SIGTERM, the second at the second.
fn stop_signals() -> io::Result<(oneshot::Receiver<()>, oneshot::Receiver<()>)> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (first, drain) = oneshot::channel();
    let (second, cut) = oneshot::channel();
    tokio::spawn(async move {
        for told in [first, second] {
            either(&mut interrupt, &mut terminate).await;
            // The server may have ended by itself.
            let _ = told.send(());
        }
        // Later signals change nothing; the receivers stay so that they do not kill.
        std::future::pending::<()>().await;
    });
    Ok((drain, cut))
}

/// Completes when standard input ends or breaks; what comes there before is of no interest.
async fn end_of_stdin() {
    let mut sink = tokio::io::sink();
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await;
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}
