//! `nigh run`: holds sockets for a command, keeps it running, and shows how it is.

use nigh_socket::systemd::Notifier;
use nigh_socket::{Address, systemd};
use serde_json::json;

use crate::cli::{RunArgs, control_address, program_name};
use crate::error::Failure;
use crate::output::{self, Manner, Style, When};
use crate::run::{Plan, RunError, Sockets, Supervisor, all, ask, render, serve_status};

/// Runs `nigh run`.
pub(crate) async fn run(args: RunArgs, when: When) -> Result<(), Failure> {
    if let Some(whom) = &args.status {
        return status(whom, args.json, when).await;
    }
    let plan = plan(&args);
    let manager = Notifier::from_environment()?;
    let control = match &args.control {
        Some(address) => address.clone(),
        None => control_address(&plan.name),
    };
    // First, for two of one name would fight for the sockets.
    let control = serve_status(&control)?;
    let sockets = Sockets::bind(&args)?;
    unclaimed(when);
    for address in sockets.addresses() {
        if args.json {
            let pid = std::process::id();
            output::print_json(&json!({"listening": address, "pid": pid}))?;
        } else {
            let address = Manner::stdout(when).paint(Style::Strong, &address);
            output::print(&format!("holding {address}\n"))?;
        }
    }
    Supervisor::new(plan, sockets, control, manager)?
        .run()
        .await
}

fn plan(args: &RunArgs) -> Plan {
    let name = args.name.clone().unwrap_or_else(|| {
        let program = args.command.first().map(program_name).unwrap_or_default();
        format!("{program}.{}", std::process::id())
    });
    Plan {
        name,
        command: args.command.clone(),
        waits_for_ready: args.notify,
        grace: args.grace,
        start_time: args.start_time,
        stop_time: args.stop_time,
        watchdog: args.watchdog,
        backoff: args.backoff,
        backoff_max: args.backoff_max,
        always: args.always,
        stored_max: args.store.into(),
    }
}

/// What a service manager passed to us and we were not told to hold.
fn unclaimed(when: When) {
    // What is wrong with the announcement was said by whoever needed it.
    for left in systemd::descriptors().unwrap_or_default() {
        if !left.is_taken {
            let text = format!(
                "note: nobody uses descriptor {} ({:?}) from the service manager: --listen fd:NAME holds it",
                left.number, left.name
            );
            output::note(when, &text);
        }
    }
}

/// Shows one supervisor, or all of this user.
async fn status(whom: &str, as_json: bool, when: When) -> Result<(), Failure> {
    let addresses = match whom.parse::<Address>() {
        Ok(address) => vec![address],
        Err(_) if whom.is_empty() => all()?,
        Err(_) => vec![control_address(whom)],
    };
    if addresses.is_empty() {
        return Err(RunError::Nobody.into());
    }
    for address in &addresses {
        let status = match ask(address).await {
            Ok(status) => status,
            // It has ended since it was listed.
            Err(Failure::Connect(_)) if whom.is_empty() && addresses.len() > 1 => continue,
            Err(error) => return Err(error),
        };
        if as_json {
            output::print_json(&status)?;
        } else {
            output::print(&render(&status, Manner::stdout(when)))?;
        }
    }
    Ok(())
}
