//! `nigh tap`: a proxy that shows what goes by, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nigh_socket::{ConnectOptions, Existing, Front, Limits, Listener, Role, SocketKind};
use serde_json::json;

use super::serve::{NotServed, stop_signals};
use crate::cli::TapArgs;
use crate::error::Failure;
use crate::output::{self, Manner, Style, When};
use crate::tap::log::Log;
use crate::tap::proxy::{Proxy, Tap};

/// Connections at once. Each holds two sockets and, at worst, 8 MiB of buffers and 8 MiB of what its decoder keeps.
const CONNECTIONS_MAX: usize = 128;
/// Time that open connections get when the tap is told to stop.
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// Runs `nigh tap`.
pub(crate) async fn run(args: TapArgs, when: When) -> Result<(), Failure> {
    let (stop, _cut) = stop_signals()?;
    let schema = args.origin.origin().pool()?;
    let listener = bind(&args)?;
    let kind = listener.kind();
    let address = format!("{}{}", args.listen.role.prefix(), listener.address());
    announce(&address, &args, when)?;
    let manner = Manner::stdout(when);
    let (log, writer) = Log::start(args.json, manner);
    let proxy = Proxy {
        to: args.connect,
        options: ConnectOptions::default().timeout(args.timeout).wait(false),
        kind,
        is_drpc: args.listen.role == Role::Drpc,
        schema,
        shown_max: args.bytes,
        log,
        connections: AtomicU64::new(0),
    };
    let mut limits = Limits::default();
    limits.connections_max = CONNECTIONS_MAX;
    limits.connections_per_uid_max = CONNECTIONS_MAX;
    limits.drain_time = DRAIN_TIME;
    let mut front = Front::new(limits, Arc::default());
    front.listen(listener, args.allow, Arc::new(Tap(Arc::new(proxy))));
    let mut writer = writer;
    let unread = tokio::select! {
        ended = front.run(async { let _ = stop.await; }) => {
            ended.map_err(nigh::ServerError::from)?;
            None
        }
        unread = &mut writer => Some(unread),
    };
    let unread = match unread {
        Some(unread) => unread,
        // What is still in the queue is written.
        None => writer.await,
    };
    unread.map_err(std::io::Error::other)??;
    Ok(())
}

fn bind(args: &TapArgs) -> Result<Listener, Failure> {
    let kind = match args.listen.role {
        Role::Stream => SocketKind::Stream,
        Role::Drpc | Role::Seqpacket => SocketKind::Seqpacket,
        _ => {
            return Err(NotServed {
                listen: args.listen.clone(),
            }
            .into());
        }
    };
    let mut options = Listener::options()
        .kind(kind)
        .existing(Existing::ReplaceStale);
    if let Some(mode) = args.mode {
        options = options.mode(mode);
    }
    if let Some(file) = &args.publish {
        options = options.publish(file);
    }
    Ok(options.bind(args.listen.address.clone())?)
}

fn announce(address: &str, args: &TapArgs, when: When) -> std::io::Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let pid = std::process::id();
    let warning = format!(
        "the server now sees the tap as its client: uid {uid}, pid {pid}, for everybody whom --allow admits"
    );
    if args.json {
        return output::print_json(&json!({
            "listening": address,
            "connects_to": args.connect.to_string(),
            "pid": pid,
            "uid": uid,
            "warning": warning,
        }));
    }
    output::note(when, &format!("note: {warning}"));
    let address = Manner::stdout(when).paint(Style::Strong, address);
    output::print(&format!("tapping {} on {address}\n", args.connect))
}
