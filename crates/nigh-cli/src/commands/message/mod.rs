//! `nigh send`, `nigh recv` and `nigh echo`: records on a socket of any kind, whole or an error.

pub(crate) mod bridge;
pub(crate) mod echo;
mod input;
mod lines;
pub(crate) mod recv;
pub(crate) mod send;
mod show;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nigh_socket::{
    ConnectOptions, Existing, Listener, ListenerOptions, RecvError, SendError, SocketKind,
    UnixDatagram, connect, connect_fd, connect_packet, resolve,
};

use crate::cli::{ListenArgs, Place};
use crate::error::Failure;
use crate::output::{self, Manner, Style, When};
use crate::pipe::{Pipe, PipeError};

/// Why records were not exchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The arguments contradict each other.
    #[error("{0}")]
    Usage(&'static str),
    /// A record is not written in hexadecimal digits.
    #[error("record {0:?} is not an even number of hexadecimal digits")]
    Hex(String),
    /// A file cannot be read or sent.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Standard input cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// A line or a file is longer than is taken.
    #[error("a record is longer than {max} bytes")]
    Long {
        /// The most that is taken, in bytes.
        max: usize,
    },
    /// A record was not sent.
    #[error("record {number}")]
    Send {
        /// Which, from 1.
        number: u64,
        /// Why not.
        #[source]
        source: SendError,
    },
    /// Nothing more can be received.
    #[error(transparent)]
    Recv(RecvError),
    /// A stream over TCP broke.
    #[error("the connection broke")]
    Tcp(#[source] io::Error),
    /// TCP carries bytes only.
    #[error("TCP carries no descriptors")]
    NoDescriptors,
    /// Nobody took a record, or nothing came.
    #[error("nothing was {what} for {waited:?}")]
    TimedOut {
        /// `sent` or `received`.
        what: &'static str,
        /// For how long.
        waited: Duration,
    },
    /// The peer left.
    #[error("the peer left after {got} of {wanted} records")]
    Short {
        /// How many came.
        got: u64,
        /// How many were to come.
        wanted: u64,
    },
}

impl MessageError {
    /// 1 in general, 2 usage, 4 too long, 5 the time was up or the peer left.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Hex(_) | Self::File { .. } | Self::NoDescriptors => 2,
            Self::Long { .. }
            | Self::Send {
                source: SendError::TooLong { .. },
                ..
            }
            | Self::Recv(RecvError::TooLong { .. }) => 4,
            Self::TimedOut { .. } | Self::Short { .. } => 5,
            _ => 1,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Hex(_) => Some("bytes of a file are written @FILE"),
            Self::Long { .. } => Some("--max sets the limit"),
            Self::Send { source, .. } => source.hint(),
            Self::Recv(error) => error.hint(),
            Self::TimedOut { .. } => {
                Some("--timeout sets how long to wait; `nigh peers` shows the queues")
            }
            _ => None,
        }
    }

    fn of(error: PipeError, number: u64) -> Self {
        match error {
            PipeError::Send(source) => Self::Send { number, source },
            PipeError::Recv(error) => Self::Recv(error),
            PipeError::Tcp(error) => Self::Tcp(error),
            PipeError::NoDescriptors => Self::NoDescriptors,
        }
    }
}

/// Connects to a socket of that kind; datagrams get a name to be answered at, if they ask for one.
async fn connected(
    place: &Place,
    options: &ConnectOptions,
    is_answered: bool,
) -> Result<Pipe, Failure> {
    Ok(match place.kind {
        SocketKind::Seqpacket => Pipe::Packet(connect_packet(&place.address, options).await?.0),
        SocketKind::Datagram => {
            let address = resolve(&place.address, options).await?;
            let socket = match is_answered {
                true => UnixDatagram::autobound()?,
                false => UnixDatagram::unbound()?,
            };
            // Waits for the server, and says why there is none; a datagram socket alone knows less.
            let options = options.clone().kind(place.kind);
            drop(connect_fd(&address, &options).await?);
            let number = 1;
            socket
                .connect(&address)
                .map_err(|source| MessageError::Send { number, source })?;
            Pipe::Datagram(Box::new(socket))
        }
        _ => connect(&place.address, options).await?.0.into(),
    })
}

fn listener_options(on: &ListenArgs, kind: SocketKind) -> ListenerOptions {
    let mut options = Listener::options().kind(kind).existing(if on.replace {
        Existing::TakeOver
    } else {
        Existing::ReplaceStale
    });
    if let Some(mode) = on.mode {
        options = options.mode(mode);
    }
    if let Some(owner) = &on.owner {
        options = options.owner(owner);
    }
    if let Some(group) = &on.group {
        options = options.group(group);
    }
    if let Some(file) = &on.publish {
        options = options.publish(file);
    }
    options
}

/// Listens for callers who may send descriptors.
fn bind(place: &Place, on: &ListenArgs, creds: bool) -> Result<Listener, Failure> {
    bind_with(place, on, creds, true)
}

fn bind_with(
    place: &Place,
    on: &ListenArgs,
    creds: bool,
    rights: bool,
) -> Result<Listener, Failure> {
    if place.kind == SocketKind::Datagram && on.allow.is_some() {
        return Err(MessageError::Usage(
            "--allow: datagrams have no connection to admit; the file's --mode decides",
        )
        .into());
    }
    let options = listener_options(on, place.kind)
        .pass_credentials(creds)
        .pass_rights(rights);
    Ok(options.bind(place.address.clone())?)
}

/// Says where it listens: on standard output, or on standard error where that is for records.
fn announce(
    place: &Place,
    listener: &Listener,
    as_json: bool,
    is_remark: bool,
    when: When,
) -> io::Result<()> {
    let place = Place {
        kind: place.kind,
        address: listener.address().clone(),
    };
    let address = place.to_string();
    if as_json {
        let pid = std::process::id();
        return output::print_json(&serde_json::json!({"listening": address, "pid": pid}));
    }
    if is_remark {
        output::note(when, &format!("listening on {address}"));
        return Ok(());
    }
    let address = Manner::stdout(when).paint(Style::Strong, &address);
    output::print(&format!("listening on {address}\n"))
}
