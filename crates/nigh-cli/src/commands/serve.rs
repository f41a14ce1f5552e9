//! `nigh serve`: the diagnostic service, and dRPC's greeting, on any number of addresses, until it is told to stop.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nigh::{
    Address, Existing, FdLimits, HandoverOptions, Listener, Notifier, NotifyError, Policy, Server,
    Succession,
};
use nigh_flagd::eval::{Evaluator, Fractional, Integers};
use nigh_flagd::service::{Flagd, Options};
use nigh_flagd::source::{Address as FlagSource, Hub, Sources};
use nigh_socket::{Listen, Protocol, Role, SocketKind, systemd};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tonic::server::NamedService;

use crate::cli::ServeArgs;
use crate::diag::pb::diag_server::DiagServer;
use crate::diag::{Counters, Diag, FILE_DESCRIPTOR_SET, OpenRoot, ServerCounts};
use crate::error::Failure;
use crate::greeting;
use crate::output::{self, Manner, Style, When};

/// A role that this server does not play.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {listen}: only streams and dRPC are served")]
pub struct NotServed {
    pub(super) listen: Listen,
}

/// It cannot be told which address goes into which file.
#[derive(Debug, thiserror::Error)]
#[error("--publish was given {files} times for {addresses} addresses: each needs its own file")]
pub struct PublishCount {
    addresses: usize,
    files: usize,
}

/// Runs `nigh serve`.
pub(crate) async fn run(args: ServeArgs, when: When) -> Result<(), Failure> {
    let files = publications(&args)?;
    // Before anybody is told that we are ready: whoever reads that may send a signal at once.
    let (drain, cut) = stop_signals()?;
    let mut server = Server::new()
        .policy(args.allow.clone())
        .limits(limits(&args))
        .health()
        .reflection(FILE_DESCRIPTOR_SET);
    let counters = server.counters();
    // Its sources are followed for as long as this is held.
    let flags = match &args.flags {
        Some(path) => Some(flags(path).await?),
        None => None,
    };
    if let Some((flagd, _)) = &flags {
        server = flagd.add_to(server);
    }
    let has_drpc = args
        .addresses
        .iter()
        .any(|listen| listen.role == Role::Drpc);
    let drpc = match has_drpc {
        true => Some(drpc(Arc::clone(&counters))?),
        false => None,
    };
    let diag = Diag::new(Counters::new(move || counts(&counters)));
    server = diagnose(server, diag, &args)?;
    for guard in &args.guard {
        server = server.guard(&guard.method, guard.policy.clone());
    }
    let mut succession = begin(&args).await?;
    let mut bound = Vec::new();
    for (listen, file) in args.addresses.iter().zip(files) {
        let (role, listener) = (listen.role, bind(listen, file, &args, succession.as_mut())?);
        bound.push((role, listener.address().clone()));
        server = match &drpc {
            Some(drpc) if role == Role::Drpc => server.listen_other(listener, Arc::clone(drpc)),
            _ => server.listen(listener),
        };
    }
    server = replaceable(server, succession, &args)?;
    announce(&bound, args.json, when)?;
    advise(&args, when);
    server = notify(server, when)?;
    let drained = async {
        tokio::select! {
            // An error means that the sender is gone, and with it the runtime.
            _ = drain => {}
            () = end_of_stdin(), if args.until_eof => {}
        }
        if let Some((flagd, _)) = &flags {
            flagd.stop();
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
        // Who reads JSON has started the other process.
        Some(drained) if drained.is_replaced && !args.json => {
            output::note(when, "replaced by another process");
        }
        Some(_) => {}
        None => output::note(when, "stopped at once by a second signal"),
    }
    Ok(())
}

/// Adds the diagnostic service, which takes descriptors.
fn diagnose(server: Server, diag: Diag, args: &ServeArgs) -> Result<Server, Failure> {
    let root = match &args.open_root {
        Some(path) => Some(OpenRoot::new(path, args.open_write)?),
        None => None,
    };
    let name = <DiagServer<Diag> as NamedService>::NAME;
    Ok(server
        .service(DiagServer::new(diag.open_root(root)))
        .receive_descriptors(name, FdLimits::default()))
}

/// The protocol of all dRPC listeners. Policy, quota and drain are those of the server that it joins.
fn drpc(counters: Arc<nigh::Counters>) -> Result<Arc<dyn Protocol>, Failure> {
    let server = nigh_drpc::Server::new(greeting::modules()?);
    Ok(server.into_protocol(counters, None)?)
}

/// flagd's protocols over the flags of one file.
async fn flags(path: &str) -> Result<(Flagd, Sources), Failure> {
    let source = FlagSource::parse(&format!("file:{path}"));
    let source = source.map_err(nigh_flagd::cli::Failure::from)?;
    let evaluator = Evaluator::new(Fractional::default(), Integers::default())
        .map_err(nigh_flagd::cli::Failure::from)?;
    let sources = [source];
    let hub = Hub::new(&sources, evaluator);
    let following = Sources::start(&sources, &hub)
        .await
        .map_err(nigh_flagd::cli::Failure::from)?;
    Ok((Flagd::new(hub, Options::default()), following))
}

fn limits(args: &ServeArgs) -> nigh::Limits {
    let mut limits = nigh::Limits::default();
    limits.connections.drain_time = args.drain;
    limits
}

/// The file of each address, if it has one.
fn publications(args: &ServeArgs) -> Result<Vec<Option<&Path>>, PublishCount> {
    let (addresses, files) = (args.addresses.len(), args.publish.len());
    if files == 0 {
        return Ok(vec![None; addresses]);
    }
    if files != addresses {
        return Err(PublishCount { addresses, files });
    }
    Ok(args
        .publish
        .iter()
        .map(|file| Some(file.as_path()))
        .collect())
}

/// Asks the server that runs, if it is to be replaced.
async fn begin(args: &ServeArgs) -> Result<Option<Succession>, Failure> {
    match control(args).filter(|_| args.replace) {
        Some(control) => Ok(Some(
            Succession::begin(control, HandoverOptions::default()).await?,
        )),
        None => Ok(None),
    }
}

/// Lets another server replace this one, where there is a place to ask.
fn replaceable(
    server: Server,
    succession: Option<Succession>,
    args: &ServeArgs,
) -> Result<Server, Failure> {
    let succession = match (succession, control(args)) {
        (None, Some(control)) => Succession::first(control, HandoverOptions::default())?,
        (Some(succession), _) => succession,
        (None, None) => return Ok(server),
    };
    Ok(server.replaceable(succession))
}

/// Where a successor asks; nowhere when there is no file to put it beside.
fn control(args: &ServeArgs) -> Option<Address> {
    if args.handover.is_some() {
        return args.handover.clone();
    }
    Succession::beside(args.addresses.iter().map(|listen| &listen.address))
}

fn bind(
    listen: &Listen,
    file: Option<&Path>,
    args: &ServeArgs,
    succession: Option<&mut Succession>,
) -> Result<Listener, Failure> {
    let kind = match listen.role {
        Role::Stream => SocketKind::Stream,
        Role::Drpc => SocketKind::Seqpacket,
        _ => {
            return Err(NotServed {
                listen: listen.clone(),
            }
            .into());
        }
    };
    let mut options = Listener::options().kind(kind).existing(if args.replace {
        Existing::TakeOver
    } else {
        Existing::ReplaceStale
    });
    if let Some(mode) = args.mode {
        options = options.mode(mode);
    }
    if let Some(file) = file {
        options = options.publish(file);
    }
    if let Some(owner) = &args.owner {
        options = options.owner(owner);
    }
    if let Some(group) = &args.group {
        options = options.group(group);
    }
    let address = listen.address.clone();
    if args.store {
        let manager = Notifier::from_environment()?.ok_or(NotifyError::Nobody)?;
        return Ok(manager.listen(&options, &address)?);
    }
    Ok(match succession {
        Some(succession) => succession.listen(&options, address)?,
        None => options.bind(address)?,
    })
}

/// Tells the service manager, if there is one.
fn notify(server: Server, when: When) -> Result<Server, Failure> {
    unclaimed(when);
    Ok(match Notifier::from_environment()? {
        Some(notifier) => server.notify(notifier),
        None => server,
    })
}

/// Callers of a socket that the service manager holds for us and that nobody listens on would wait for ever.
fn unclaimed(when: When) {
    // What is wrong with the announcement was said by whoever needed it.
    for left in systemd::descriptors().unwrap_or_default() {
        if !left.is_taken {
            let text = format!(
                "note: nobody uses descriptor {} ({:?}) from the service manager",
                left.number, left.name
            );
            output::note(when, &text);
        }
    }
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

/// Last before serving: whoever reads it may ask to replace this server at once.
fn announce(bound: &[(Role, Address)], as_json: bool, when: When) -> io::Result<()> {
    for (role, address) in bound {
        let address = format!("{}{address}", role.prefix());
        if as_json {
            let pid = std::process::id();
            output::print_json(&json!({"listening": address, "pid": pid}))?;
        } else {
            let address = Manner::stdout(when).paint(Style::Strong, &address);
            output::print(&format!("listening on {address}\n"))?;
        }
    }
    Ok(())
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
pub(super) fn stop_signals() -> io::Result<(oneshot::Receiver<()>, oneshot::Receiver<()>)> {
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
