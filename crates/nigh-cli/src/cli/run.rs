//! The arguments of `nigh run`, and of the step between it and its command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use nigh_socket::{Address, AddressError, Listen};

use super::mode;
use crate::duration;

pub(super) const HELP: &str = "\
The command finds the sockets as sd_listen_fds(3) has it: descriptors 3, 4 and so on, with LISTEN_FDS,
LISTEN_PID and LISTEN_FDNAMES; `nigh serve fd:NAME` takes them. It may say READY=1, STATUS=, STOPPING=1,
WATCHDOG=1 and FDSTORE=1 on NOTIFY_SOCKET. The sockets outlive it: callers wait in their queues.

Signals: HUP starts a new one, and ends the old one when the new one is ready. TERM and INT end both; a
second one kills. USR1, USR2, QUIT and WINCH are passed on.

Exit code: 0 when it was told to end or the command has ended with 0, 2 usage, 1 otherwise.

Examples:
  nigh run --listen web=unix:/run/app.sock -- nigh serve fd:web
  nigh run --listen tcp:127.0.0.1:8080 --name app -- python3 app.py
  nigh run --status
  nigh run --status app --json";

/// Arguments of `nigh run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Hold this socket for the command, under this name; drpc: and seqpacket: for packets, dgram: for
    /// datagrams. May be repeated.
    #[arg(long, value_name = "[NAME=]ADDR")]
    pub listen: Vec<NamedListen>,
    /// What this supervisor is called: `nigh run --status NAME`. Default: the command and our process id.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,
    /// Where to tell the status, instead of at an abstract name.
    #[arg(long, value_name = "ADDR")]
    pub control: Option<Address>,
    /// Permissions of socket files, in octal.
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub mode: Option<u32>,
    /// Owner of socket files, by name or id.
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// Group of socket files, by name or id.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Take addresses over from servers that listen there.
    #[arg(long)]
    pub replace: bool,
    /// Wait for READY=1, for at most --start-time. Without it, a command that has never said so counts as
    /// ready after --grace.
    #[arg(long)]
    pub notify: bool,
    /// After this time a command that has never said READY=1 counts as ready.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1s")]
    pub grace: Duration,
    /// Longest time until READY=1; then it is killed.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "30s")]
    pub start_time: Duration,
    /// Time that it gets after SIGTERM; then it is killed, with all it has started.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "15s")]
    pub stop_time: Duration,
    /// Kill it when it has not said WATCHDOG=1 for this long.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub watchdog: Option<Duration>,
    /// Wait before it is started again after a crash: at first.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "100ms")]
    pub backoff: Duration,
    /// And at most, when it crashes again and again.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "30s")]
    pub backoff_max: Duration,
    /// Start it again when it ends with 0, too.
    #[arg(long)]
    pub always: bool,
    /// How many descriptors are kept for the command (FDSTORE=1).
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(0..=128))]
    pub store: u16,
    /// Show what a supervisor does: the one of this name, at this address, or all of this user.
    #[arg(long, value_name = "NAME|ADDR", num_args = 0..=1, default_missing_value = "",
        conflicts_with_all = ["listen", "name", "control", "command"])]
    pub status: Option<String>,
    /// Print JSON: one object per listener, or the status.
    #[arg(long)]
    pub json: bool,
    /// The command and its arguments.
    #[arg(
        last = true,
        value_name = "COMMAND",
        required_unless_present = "status"
    )]
    pub command: Vec<OsString>,
}

/// Arguments of the step that becomes the command: it knows its own process id.
#[derive(Debug, Args)]
pub struct StageArgs {
    /// The supervisor's process id.
    #[arg(long)]
    pub parent: u32,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// `[NAME=][drpc:|seqpacket:|dgram:]ADDR`.
#[derive(Debug, Clone)]
pub struct NamedListen {
    /// As in `LISTEN_FDNAMES`; `unknown` where none is given, as systemd has it.
    pub name: String,
    /// What and where.
    pub listen: Listen,
}

impl FromStr for NamedListen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // Before the first colon there is a scheme, which has no equals sign.
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) if !name.contains(':') && !name.is_empty() => (name, rest),
            _ => ("unknown", text),
        };
        // What can be asked for as fd:NAME, or the default.
        Address::Activated(name.to_owned()).check()?;
        Ok(Self {
            name: name.to_owned(),
            listen: rest.parse()?,
        })
    }
}

fn name(text: &str) -> Result<String, super::ArgumentError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    match (1..=64).contains(&text.len()) && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(super::ArgumentError::Name),
    }
}

/// Where a supervisor is looked for that was given a name.
#[must_use]
pub fn control_address(name: &str) -> Address {
    let user = rustix::process::geteuid().as_raw();
    Address::Abstract(format!("nigh-run/{user}/{name}").into_bytes())
}

/// The file name of the program.
pub(crate) fn program_name(program: &OsString) -> String {
    let path = PathBuf::from(program);
    let name = path.file_name().unwrap_or(program).to_string_lossy();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars().filter(|c| fits(*c)).take(40).collect()
}

#[cfg(test)]
mod tests {
    use nigh_socket::Role;

    use super::*;

    #[test]
    fn listeners_may_have_names() {
        for (text, name, role, address) in [
            ("unix:/a=b", "unknown", Role::Stream, "unix:/a=b"),
            ("web=unix:/a=b", "web", Role::Stream, "unix:/a=b"),
            ("rpc=drpc:unix:/a", "rpc", Role::Drpc, "unix:/a"),
            ("dgram:autobind:", "unknown", Role::Datagram, "autobind:"),
        ] {
            let parsed: NamedListen = text.parse().unwrap();
            assert_eq!((parsed.name.as_str(), parsed.listen.role), (name, role));
            assert_eq!(parsed.listen.address.to_string(), address);
        }
        for wrong in ["=unix:/a", "3=unix:/a", "a b\n=unix:/a", "web=", "web"] {
            assert!(wrong.parse::<NamedListen>().is_err(), "{wrong}");
        }
    }
}
