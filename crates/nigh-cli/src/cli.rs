//! The arguments of `nigh`, from which its help, its completions and its manual are made.

mod bench;
mod drpc;
mod handover;
mod run;
mod sockets;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nigh_socket::{Address, Listen, Policy};

use crate::call::schema::{Origin, Target};
use crate::duration;
use crate::fdargs::{self, AttachFd, SaveFd};
use crate::output::When;

pub use bench::BenchArgs;
pub use drpc::{DrpcArgs, FramingChoice};
pub use handover::HandoverCommand;
pub(crate) use run::program_name;
pub use run::{NamedListen, RunArgs, StageArgs, control_address};
pub use sockets::{
    BridgeArgs, DoctorArgs, EchoArgs, ListenArgs, LsArgs, PeersArgs, Place, RecvArgs, SendArgs,
    ShowArgs,
};

/// Serve, call and inspect local RPC.
#[derive(Debug, Parser)]
#[command(name = "nigh", version, max_term_width = 100, after_help = ADDRESSES)]
pub struct Cli {
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const ADDRESSES: &str = "\
Addresses: unix:PATH, unix-abstract:NAME, fd:N, fd:NAME (from systemd or nigh run), tcp:HOST:PORT,
https://HOST:PORT (clients), published:FILE (clients: what a server wrote there with --publish),
autobind: (servers). Durations: 250ms, 1.5s, 2m.";

const CALL_HELP: &str = "\
Exit code: 0 OK, 2 usage (bad address, bad JSON, no such method), 3 cannot connect,
16 + status code when the server answers with a failure.

Streams take one JSON value after the other and print one line of JSON per reply; values on
standard input are sent as they are typed.

Examples:
  nigh call unix:/run/app.sock
  nigh call unix:/run/app.sock nigh.diag.v1.Diag
  nigh call unix:/run/app.sock nigh.diag.v1.Diag/Echo '{\"text\": \"hello\"}'
  nigh call unix:/run/app.sock nigh.diag.v1.Diag/EchoStream -
  nigh call unix:/run/app.sock nigh.diag.v1.Diag/Stat --fd fds=/etc/hostname";

const DRPC_HELP: &str = "\
Exit code: 0 SUCCESS, 1 no answer (deadline, broken connection, other framing), 2 usage,
3 cannot connect, 16 + status when the server answers with a failure (18 FAILURE,
19 UNKNOWN_MODULE, 20 UNKNOWN_METHOD, 21 to 23 the bytes of call, body or answer), 31 any
other status.

Without METHOD, or without MODULE, the known ones are listed and nobody is called.

Examples:
  nigh drpc unix:/tmp/d TEST GREETING 0a05776f726c64
  nigh drpc unix:/tmp/d TEST GREETING --proto Hello '{\"name\": \"you\"}'
  nigh drpc unix:/tmp/d 77 1 --proto-file app.proto --proto app.Ask:app.Answer '{}'
  nigh drpc unix:/run/daos_agent/daos_agent.sock sec_agent request_creds --framing probe";

const TAP_HELP: &str = "\
The server sees the tap's identity instead of the client's, for everybody whom --allow admits.
Arrows: -> from the client, <- from the server, -- from the tap itself. Descriptors go through.

Examples:
  nigh tap unix:/tmp/tap unix:/run/app.sock
  nigh tap drpc:unix:/tmp/tap unix:/run/daos_agent/daos_agent.sock";

/// One command of `nigh`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the diagnostic service: health, reflection and nigh.diag.v1.Diag
    Serve(ServeArgs),
    /// Call a gRPC method with JSON, or list what a server offers
    #[command(after_help = CALL_HELP)]
    Call(CallArgs),
    /// Show who a server is and who it takes you for
    Who(WhoArgs),
    /// Call a dRPC method, or list the methods that DAOS has
    #[command(after_help = DRPC_HELP)]
    Drpc(DrpcArgs),
    /// Stand between a client and a server, and print what goes by
    #[command(after_help = TAP_HELP)]
    Tap(TapArgs),
    /// Call a method over and over, and show how long it takes on each wire
    #[command(after_help = bench::HELP)]
    Bench(BenchArgs),
    /// Send records to a socket of any kind
    #[command(after_help = sockets::SEND_HELP)]
    Send(SendArgs),
    /// Receive records on a socket of any kind
    #[command(after_help = sockets::RECV_HELP)]
    Recv(RecvArgs),
    /// Send back whatever comes
    #[command(after_help = sockets::ECHO_HELP)]
    Echo(EchoArgs),
    /// Serve feature flags with flagd's protocols; check, evaluate and compare files of flags
    #[command(subcommand)]
    Flagd(nigh_flagd::cli::Command),
    /// Connect whoever connects here with a server there
    #[command(after_help = sockets::BRIDGE_HELP)]
    Bridge(BridgeArgs),
    /// List listening Unix sockets
    Ls(LsArgs),
    /// Show who is connected to a socket, and what does not move
    #[command(after_help = sockets::PEERS_HELP)]
    Peers(PeersArgs),
    /// Tell what this kernel and system allow, and who holds a name
    Doctor(DoctorArgs),
    /// See, fetch or give a server's listeners, as a successor does
    #[command(subcommand)]
    Handover(HandoverCommand),
    /// Hold sockets for a command, keep it running, and replace it without losing a caller
    #[command(after_help = run::HELP)]
    Run(Box<RunArgs>),
    /// Become the command of `nigh run`
    #[command(name = "__stage", hide = true)]
    Stage(StageArgs),
    /// Start a private server, call it in every way, and show what happened
    Demo(DemoArgs),
    /// Print a completion script
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Print the manual, or write all its pages
    Man {
        /// Write one page per command into this folder.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Arguments of `nigh serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen.
    #[arg(required = true, value_name = "ADDR")]
    pub addresses: Vec<Listen>,
    /// Who may connect: same-user, user:NAME|UID, group:NAME|GID, label:TEXT, any, none, combined
    /// with not, and, or and parentheses.
    #[arg(long, value_name = "POLICY", default_value = "same-user")]
    pub allow: Policy,
    /// Demand more of the callers of one method: /package.Service/Method=POLICY.
    #[arg(long, value_name = "METHOD=POLICY", value_parser = guard)]
    pub guard: Vec<Guard>,
    /// Serve the flags of this file with flagd's protocols, too; `nigh flagd start` can do more.
    #[arg(long, value_name = "FILE")]
    pub flags: Option<String>,
    /// Let callers open regular files beneath this directory (OpenFile), for reading.
    #[arg(long, value_name = "DIR")]
    pub open_root: Option<PathBuf>,
    /// Let them open files for writing, too.
    #[arg(long, requires = "open_root")]
    pub open_write: bool,
    /// Permissions of socket files, in octal.
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub mode: Option<u32>,
    /// Owner of socket files, by name or id.
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// Group of socket files, by name or id.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Replace the server that listens there: it hands over if it can, so that no call is lost; else its address
    /// is taken over.
    #[arg(long)]
    pub replace: bool,
    /// Have the service manager (systemd, nigh run) keep the sockets, and take them back when started
    /// anew, after a crash, too.
    #[arg(long, conflicts_with_all = ["publish", "replace"])]
    pub store: bool,
    /// Write the address into this file, for clients that are given published:FILE. With several
    /// addresses as often as there are addresses, in their order.
    #[arg(long, value_name = "FILE")]
    pub publish: Vec<PathBuf>,
    /// Where a successor asks for the listeners: a path, of which other users are kept away. Default: the first
    /// socket file with `.handover` behind its name.
    #[arg(long, value_name = "ADDR")]
    pub handover: Option<Address>,
    /// Time that running calls get after SIGINT or SIGTERM; a second one cuts them off.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "10s")]
    pub drain: Duration,
    /// Stop when standard input ends, too: a child server does not outlive its parent.
    #[arg(long)]
    pub until_eof: bool,
    /// Print one JSON object per listener.
    #[arg(long)]
    pub json: bool,
}

/// A method and who may call it.
#[derive(Debug, Clone)]
pub struct Guard {
    /// `/package.Service/Method`, or `/package.Service/*`.
    pub method: String,
    /// Who may call it, of those who may connect.
    pub policy: Policy,
}

/// Where the server is and how long to try.
#[derive(Debug, Args)]
pub struct Connect {
    /// The server's address.
    #[arg(value_name = "ADDR")]
    pub address: Address,
    /// Longest time for connecting, and for the server to describe itself.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub timeout: Duration,
    /// Wait, within the timeout, for a server that is not there yet.
    #[arg(long)]
    pub wait: bool,
}

/// Arguments of `nigh call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Where, and how long to try.
    #[command(flatten)]
    pub connect: Connect,
    /// The method; a service lists its methods, nothing lists the services.
    #[arg(value_name = "PACKAGE.SERVICE/METHOD")]
    pub target: Option<Target>,
    /// The request: JSON, a file, or standard input. Without it, one empty message or an empty stream.
    #[arg(value_name = "JSON|@FILE|-")]
    pub input: Option<String>,
    /// The wire: nigh's own, HTTP/2, or nigh's where the server speaks it.
    #[arg(long, value_name = "WIRE", default_value = "auto")]
    pub wire: WireName,
    /// Where methods are described.
    #[command(flatten)]
    pub origin: OriginArgs,
    /// Metadata of the call; the value of a name in -bin is base64. May be repeated.
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub metadata: Vec<String>,
    /// Attach this file, opened for reading, or standard input (-), and put the index into this field of the first
    /// message; a dot leads into a field, and a list takes several. May be repeated.
    #[arg(long, value_name = "FIELD=PATH|-", value_parser = fdargs::attach)]
    pub fd: Vec<AttachFd>,
    /// Take the descriptors that this field of the replies mentions, say what they are, and write the content of the
    /// first to PATH, that of the others to PATH.2, PATH.3 and so on. May be repeated.
    #[arg(long, value_name = "FIELD[=PATH]", value_parser = fdargs::save)]
    pub save_fd: Vec<SaveFd>,
    /// Longest time for the call; the server is told.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub deadline: Option<Duration>,
    /// Largest reply taken, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = crate::call::exchange::REPLY_BYTES_MAX)]
    pub max_reply: usize,
    /// Print fields that have their default value, too.
    #[arg(long)]
    pub defaults: bool,
    /// Print one JSON object: replies, status, metadata, trailers and timing.
    #[arg(long)]
    pub json: bool,
    /// Show metadata, trailers and timing on standard error.
    #[arg(short, long)]
    pub verbose: bool,
}

/// A wire's name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WireName {
    /// nigh to a nigh server, HTTP/2 to any other.
    Auto,
    /// The nigh wire or nothing.
    Nigh,
    /// HTTP/2.
    Http2,
}

impl From<WireName> for nigh::Wire {
    fn from(name: WireName) -> Self {
        match name {
            WireName::Auto => Self::Auto,
            WireName::Nigh => Self::Nigh,
            WireName::Http2 => Self::Http2,
        }
    }
}

/// Where the descriptions of methods come from.
#[derive(Debug, Args)]
pub struct OriginArgs {
    /// Take the methods from this file instead of asking the server. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub proto: Vec<PathBuf>,
    /// Folder that imports are relative to. May be repeated.
    #[arg(short = 'I', long = "import", value_name = "DIR", requires = "proto")]
    pub imports: Vec<PathBuf>,
    /// Take the methods from a compiled FileDescriptorSet.
    #[arg(long, value_name = "FILE", conflicts_with = "proto")]
    pub descriptor_set: Option<PathBuf>,
}

impl OriginArgs {
    /// The origin that the arguments choose.
    pub fn origin(&self) -> Origin {
        match &self.descriptor_set {
            Some(path) => Origin::DescriptorSet(path.clone()),
            None if self.proto.is_empty() => Origin::Reflection,
            None => Origin::Proto {
                files: self.proto.clone(),
                imports: self.imports.clone(),
            },
        }
    }
}

/// Arguments of `nigh who`.
#[derive(Debug, Args)]
pub struct WhoArgs {
    /// Where, and how long to try.
    #[command(flatten)]
    pub connect: Connect,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `nigh tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Where clients connect: [drpc:|seqpacket:]ADDR.
    #[arg(value_name = "LISTEN")]
    pub listen: Listen,
    /// Where the server is.
    #[arg(value_name = "CONNECT", value_parser = server)]
    pub connect: Address,
    /// Who may connect, and so act with the tap's identity.
    #[arg(long, value_name = "POLICY", default_value = "same-user")]
    pub allow: Policy,
    /// Permissions of the socket file, in octal.
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub mode: Option<u32>,
    /// Write the address into this file, for clients that are given published:FILE.
    #[arg(long, value_name = "FILE")]
    pub publish: Option<PathBuf>,
    /// Where messages are described; those of known methods are shown as JSON.
    #[command(flatten)]
    pub origin: OriginArgs,
    /// Bytes shown of what no decoder knows, and of dRPC's bodies.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub bytes: usize,
    /// Longest time for connecting to the server.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub timeout: Duration,
    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,
}

/// A server's address; that it takes packets is known, so the prefix that says so may be there.
fn server(text: &str) -> Result<Address, nigh_socket::AddressError> {
    let prefixes = ["drpc:", "seqpacket:"];
    let bare = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
    bare.unwrap_or(text).parse()
}

/// Arguments of `nigh demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Print one JSON object per row.
    #[arg(long)]
    pub json: bool,
}

/// Why an argument is refused, where its type does not say so itself.
#[derive(Debug, Clone, thiserror::Error)]
enum ArgumentError {
    #[error("expected an octal number such as 0660, at most 0777")]
    Mode,
    #[error("expected /package.Service/Method=POLICY")]
    Guard,
    #[error("expected 1 to 64 letters, digits and any of . _ - @")]
    Name,
    #[error("{0}")]
    Policy(nigh_socket::PolicyError),
}

fn mode(text: &str) -> Result<u32, ArgumentError> {
    match u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err(ArgumentError::Mode),
    }
}

fn guard(text: &str) -> Result<Guard, ArgumentError> {
    let (method, policy) = text.split_once('=').ok_or(ArgumentError::Guard)?;
    if !method.starts_with('/')
        || method[1..]
            .split('/')
            .filter(|word| !word.is_empty())
            .count()
            != 2
    {
        return Err(ArgumentError::Guard);
    }
    Ok(Guard {
        method: method.to_owned(),
        policy: policy.parse().map_err(ArgumentError::Policy)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn call_takes_its_request_in_any_form() {
        for (line, input) in [
            ("nigh call unix:/s a.S/M", None),
            ("nigh call unix:/s a.S/M -", Some("-")),
            ("nigh call unix:/s a.S/M @f", Some("@f")),
            (
                "nigh call unix:/s a.S/M {} -H a:b --deadline 2s",
                Some("{}"),
            ),
            ("nigh call --json unix:/s a.S/M {} -v", Some("{}")),
        ] {
            let Command::Call(args) = parse(line).unwrap() else {
                panic!("{line}");
            };
            assert_eq!(args.input.as_deref(), input, "{line}");
        }
    }

    #[test]
    fn bad_arguments_are_usage_errors_that_say_why() {
        for (line, why) in [
            ("nigh", "Usage"),
            ("nigh call", "ADDR"),
            ("nigh call ftp:x", "ftp:x"),
            ("nigh call unix:/s a/b/c", "package.Service/Method"),
            ("nigh call unix:/s a.S/M {} --deadline 2", "250ms"),
            (
                "nigh call unix:/s a.S/M --proto f --descriptor-set g",
                "cannot be used with",
            ),
            ("nigh call unix:/s a.S/M -I d", "--proto"),
            ("nigh serve unix:/s --open-write", "--open-root"),
            ("nigh serve", "ADDR"),
            ("nigh serve https://h:1", "https"),
            ("nigh serve unix:/s --mode 999", "octal"),
            ("nigh serve unix:/s --mode 7777", "octal"),
            (
                "nigh serve unix:/s --allow group:no-such-group-here",
                "no-such-group-here",
            ),
            (
                "nigh serve unix:/s --guard Method=any",
                "/package.Service/Method",
            ),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(why), "{line}: {error}");
        }
    }
}
