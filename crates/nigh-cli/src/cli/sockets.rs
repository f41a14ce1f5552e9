//! The arguments of the commands for plain sockets: send, recv, echo, peers and doctor.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use nigh_socket::{Address, AddressError, Policy, SocketKind};

use super::mode;
use crate::duration;

pub(super) const SEND_HELP: &str = "\
A record is one packet, one datagram, or one line of a stream. Without RECORD, each line of
standard input is one. On a stream a newline is put behind text; @FILE and --hex are sent as they
are. A packet that does not fit is an error: nothing is ever cut.

Exit code: 0 all sent (and answered, with --replies), 1 failed, 2 usage, 3 cannot connect,
4 a record is longer than the socket takes, 5 the time was up or the peer left before the end.

Examples:
  nigh send unix:/tmp/s hello world
  nigh send seqpacket:unix:/tmp/p @packet.bin --fd /etc/hostname --replies 1
  printf 'one\\ntwo\\n' | nigh send dgram:published:/run/app/address";

pub(super) const RECV_HELP: &str = "\
A record is one packet, one datagram, or one line of a stream (with --hex, what one read brings).
It is printed whole, followed by a newline; what came with it, and from whom, goes to standard
error. A terminal is shown control characters written out.

Exit code: 0 done, 1 failed, 2 usage, 3 cannot connect, 4 a line is longer than --max, 5 the time
was up, or the peer left, before --count records had come.

Examples:
  nigh recv seqpacket:unix:/tmp/p --creds
  nigh recv dgram:autobind: --publish /run/app/address --count 10 --json
  nigh recv --connect unix:/tmp/s --timeout 5s";

pub(super) const ECHO_HELP: &str = "\
Streams get their bytes back, packets and datagrams come back whole, with their descriptors. A
datagram whose sender has no name cannot be answered; one whose sender does not read is given up
after a second. Both are said on standard error.";

/// An address, and before it which kind of socket is there: `[stream:|seqpacket:|dgram:]ADDR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What a message is there.
    pub kind: SocketKind,
    /// Where.
    pub address: Address,
}

impl FromStr for Place {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let kinds = [
            ("stream:", SocketKind::Stream),
            ("seqpacket:", SocketKind::Seqpacket),
            ("drpc:", SocketKind::Seqpacket),
            ("dgram:", SocketKind::Datagram),
        ];
        let prefixed = kinds
            .into_iter()
            .find_map(|(prefix, kind)| Some((kind, text.strip_prefix(prefix)?)));
        let (kind, address) = prefixed.unwrap_or((SocketKind::Stream, text));
        Ok(Self {
            kind,
            address: address.parse()?,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            SocketKind::Seqpacket => "seqpacket:",
            SocketKind::Datagram => "dgram:",
            _ => "",
        })?;
        write!(f, "{}", self.address)
    }
}

/// How a command listens.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Who may connect. Default same-user. Datagrams have no connection: there the file's mode decides.
    #[arg(long, value_name = "POLICY")]
    pub allow: Option<Policy>,
    /// Permissions of the socket file, in octal.
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub mode: Option<u32>,
    /// Owner of the socket file, by name or id.
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// Group of the socket file, by name or id.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Take the address over from a server that listens there.
    #[arg(long)]
    pub replace: bool,
    /// Write the address into this file, for clients that are given published:FILE.
    #[arg(long, value_name = "FILE")]
    pub publish: Option<PathBuf>,
}

/// How records are shown.
#[derive(Debug, Clone, Copy, Args)]
pub struct ShowArgs {
    /// Say who wrote each record, as the kernel vouches.
    #[arg(long)]
    pub creds: bool,
    /// Hexadecimal digits instead of text.
    #[arg(long)]
    pub hex: bool,
    /// Longest line of a stream, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub max: usize,
    /// Print one JSON object per record, with its descriptors and sender.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `nigh send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Where to: [stream:|seqpacket:|dgram:]ADDR, a stream by default.
    #[arg(value_name = "ADDR")]
    pub place: Place,
    /// Records: text, a whole file, or the lines of standard input.
    #[arg(value_name = "TEXT|@FILE|-")]
    pub records: Vec<String>,
    /// Send a descriptor of this file, opened for reading, or of standard input (-), with the first
    /// record. May be repeated.
    #[arg(long, value_name = "FILE|-")]
    pub fd: Vec<PathBuf>,
    /// Send a sealed copy of this file in memory with the first record. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub memory: Vec<PathBuf>,
    /// Standard input, to its end, is one record.
    #[arg(long)]
    pub whole: bool,
    /// Listen, and send to the first who connects.
    #[arg(long)]
    pub listen: bool,
    /// Receive so many records after sending.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub replies: u64,
    /// Longest time for connecting, for each record to be sent, and for each reply.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub timeout: Duration,
    /// Wait, within the timeout, for a server that is not there yet.
    #[arg(long)]
    pub wait: bool,
    /// How to show replies; --hex is how records are written, too.
    #[command(flatten)]
    pub show: ShowArgs,
    /// With --listen.
    #[command(flatten)]
    pub on: ListenArgs,
}

/// Arguments of `nigh recv`.
#[derive(Debug, Args)]
pub struct RecvArgs {
    /// Where to listen: [stream:|seqpacket:|dgram:]ADDR, a stream by default.
    #[arg(value_name = "ADDR")]
    pub place: Place,
    /// Connect to a server there instead.
    #[arg(long)]
    pub connect: bool,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Stop when the first caller has left.
    #[arg(long, conflicts_with = "connect")]
    pub once: bool,
    /// Stop when nothing has come for so long; for connecting 5s without it.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// With --connect: wait, within the timeout, for a server that is not there yet.
    #[arg(long)]
    pub wait: bool,
    /// How to show records.
    #[command(flatten)]
    pub show: ShowArgs,
    /// How to listen.
    #[command(flatten)]
    pub on: ListenArgs,
}

/// Arguments of `nigh echo`.
#[derive(Debug, Args)]
pub struct EchoArgs {
    /// Where to listen: [stream:|seqpacket:|dgram:]ADDR, a stream by default.
    #[arg(value_name = "ADDR")]
    pub place: Place,
    /// How to listen.
    #[command(flatten)]
    pub on: ListenArgs,
    /// Print one JSON object when it listens.
    #[arg(long)]
    pub json: bool,
}

pub(super) const PEERS_HELP: &str = "\
TO SERVER and TO CLIENT: bytes that the one end has not read, how full the other end's send buffer
is with them, and descriptors that wait with them. There are two looks: what is not empty and the
same at both does not move, and its reader is named. Without privilege the processes of other users
are not known, everything else is.

Exit code: 0 found, 1 failed, 3 nobody is there.";

/// Arguments of `nigh ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Print one JSON object per socket; with --watch one per change.
    #[arg(long)]
    pub json: bool,
    /// Look again and again: on a terminal the list is redrawn, elsewhere each change is a line.
    #[arg(long)]
    pub watch: bool,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1s", requires = "watch")]
    pub interval: Duration,
    /// Stop after so many looks.
    #[arg(long, value_name = "N", requires = "watch")]
    pub looks: Option<u64>,
}

/// Arguments of `nigh peers`.
#[derive(Debug, Args)]
pub struct PeersArgs {
    /// The socket: its type does not matter.
    #[arg(value_name = "ADDR")]
    pub place: Place,
    /// Time between the two looks.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "300ms")]
    pub stuck: Duration,
    /// Print one JSON object per connection.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `nigh doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A socket to look at as well: who holds its name, and who can get to it.
    #[arg(value_name = "ADDR")]
    pub place: Option<Place>,
    /// Print one JSON object per finding.
    #[arg(long)]
    pub json: bool,
}

pub(super) const BRIDGE_HELP: &str = "\
Between two streams, Unix or TCP, the kernel moves the bytes where it can: none is copied through
this process. What is on its way refers to the sender's pages, and descriptors cannot cross; they
are refused at their sender. Between two packet sockets each packet goes whole, with its
descriptors. The server sees the bridge's identity instead of the client's, for everybody whom
--allow admits.

Examples:
  nigh bridge unix:/tmp/s tcp:127.0.0.1:8080
  nigh bridge tcp:127.0.0.1:0 unix:/run/app.sock --allow any --publish /tmp/port";

/// Arguments of `nigh bridge`.
#[derive(Debug, Args)]
pub struct BridgeArgs {
    /// Where clients connect: [stream:|seqpacket:]ADDR, a stream by default.
    #[arg(value_name = "LISTEN")]
    pub listen: Place,
    /// Where the server is: [stream:|seqpacket:]ADDR, of the same kind.
    #[arg(value_name = "CONNECT")]
    pub connect: Place,
    /// How to listen.
    #[command(flatten)]
    pub on: ListenArgs,
    /// Longest time for connecting to the server.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub timeout: Duration,
    /// Print one JSON object when it listens, and one per connection at its end.
    #[arg(long)]
    pub json: bool,
}
