//! `nigh bridge`: whoever connects here is connected there; bytes are moved by the kernel where it can.
//!
//! Trap: descriptors cannot cross a stream's bridge, so the listener refuses them at their sender. Packets are passed one by
//! one with what came with them.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use nigh_socket::moving::{Bridged, Flow, Way, bridge};
use nigh_socket::{
    ConnectOptions, Connection, Front, Limits, Peer, Policy, Protocol, Refused, Serving,
    SocketKind, Transport, connect, connect_packet,
};
use serde_json::{Value, json};

use super::{MessageError, announce, bind_with};
use crate::cli::{BridgeArgs, Place};
use crate::commands::serve::stop_signals;
use crate::error::Failure;
use crate::output::{self, When};
use crate::pipe::{Pipe, PipeError};

/// Connections at once: each takes up to ten descriptors.
const CONNECTIONS_MAX: usize = 128;
/// Time that open connections get when the bridge is told to stop.
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// Runs `nigh bridge`.
pub(crate) async fn run(args: BridgeArgs, when: When) -> Result<(), Failure> {
    let kind = args.listen.kind;
    if kind != args.connect.kind || kind == SocketKind::Datagram {
        return Err(MessageError::Usage(
            "a bridge is between two streams, or between two packet sockets",
        )
        .into());
    }
    // Before anybody is told that we are ready.
    let (stop, _cut) = stop_signals()?;
    let carries = kind == SocketKind::Seqpacket;
    let listener = bind_with(&args.listen, &args.on, false, carries)?;
    announce(&args.listen, &listener, args.json, false, when)?;
    let policy = args.on.allow.clone().unwrap_or_else(Policy::same_user);
    let mut limits = Limits::default();
    limits.connections_max = CONNECTIONS_MAX;
    limits.connections_per_uid_max = CONNECTIONS_MAX;
    limits.drain_time = DRAIN_TIME;
    let mut front = Front::new(limits, Arc::default());
    let passage = Passage {
        to: args.connect,
        options: ConnectOptions::default().timeout(args.timeout).wait(false),
        as_json: args.json,
        when,
    };
    front.listen(listener, policy, Arc::new(Gate(Arc::new(passage))));
    let ended = front.run(async {
        let _ = stop.await;
    });
    ended.await.map_err(nigh::ServerError::from)?;
    Ok(())
}

/// The protocol of a bridge's listener.
#[derive(Debug)]
struct Gate(Arc<Passage>);

/// What every connection of a bridge needs.
#[derive(Debug)]
struct Passage {
    to: Place,
    options: ConnectOptions,
    as_json: bool,
    when: When,
}

impl Protocol for Gate {
    fn kind(&self) -> SocketKind {
        self.0.to.kind
    }

    fn takes_descriptors(&self) -> Option<bool> {
        Some(self.kind() == SocketKind::Seqpacket)
    }

    fn serve(&self, connection: Connection) -> Serving {
        let passage = Arc::clone(&self.0);
        Box::pin(async move {
            let (transport, peer, _, hold) = connection.into_parts();
            let outcome = passage.carry(transport).await;
            passage.say(&peer, outcome);
            drop(hold);
        })
    }

    fn refuse(&self, _: Refused) -> Serving {
        // The front has logged it, and a plain socket has no words for it.
        Box::pin(async {})
    }
}

impl Passage {
    async fn carry(&self, transport: Transport) -> Result<[Carried; 2], Failure> {
        match transport {
            Transport::Stream(near) => {
                let (far, _) = connect(&self.to.address, &self.options).await?;
                let Bridged { there, back } = bridge(near, far).await?;
                Ok([there.into(), back.into()])
            }
            Transport::Packet(near) => {
                let (far, _) = connect_packet(&self.to.address, &self.options).await?;
                let (near, far) = (Pipe::Packet(near), Pipe::Packet(far));
                let (there, back) = tokio::join!(pass(&near, &far), pass(&far, &near));
                Ok([there, back])
            }
            _ => Err(MessageError::Usage("another kind of socket").into()),
        }
    }

    fn say(&self, client: &Peer, outcome: Result<[Carried; 2], Failure>) {
        let client = client.to_string();
        let (there, back) = match outcome {
            Ok([there, back]) => (there, back),
            Err(failure) => {
                let why = failure.message();
                if self.as_json {
                    let line = json!({"client": client, "error": why});
                    // A bridge goes on when nobody reads what it says.
                    let _ = output::print_json(&line);
                } else {
                    output::note(self.when, &format!("{client}: {why}"));
                }
                return;
            }
        };
        if self.as_json {
            let line = json!({"client": client, "there": there.as_json(), "back": back.as_json()});
            let _ = output::print_json(&line);
        } else {
            let (there, back) = (there.words(), back.words());
            output::note(self.when, &format!("{client}: {there} there, {back} back"));
        }
    }
}

/// What went one way.
#[derive(Debug, Default)]
struct Carried {
    bytes: u64,
    packets: Option<u64>,
    way: &'static str,
    error: Option<String>,
}

impl From<Flow> for Carried {
    fn from(flow: Flow) -> Self {
        Self {
            bytes: flow.bytes,
            packets: None,
            way: match flow.way {
                Way::Spliced => "spliced",
                _ => "copied",
            },
            error: flow.outcome.err().map(|error| error.to_string()),
        }
    }
}

impl Carried {
    fn words(&self) -> String {
        let packets = self.packets.map(|packets| format!(" in {packets} packets"));
        let error = self.error.as_ref().map(|error| format!(" ({error})"));
        format!(
            "{} bytes{} {}{}",
            self.bytes,
            packets.unwrap_or_default(),
            self.way,
            error.unwrap_or_default()
        )
    }

    fn as_json(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "packets": self.packets,
            "way": self.way,
            "error": self.error,
        })
    }
}

/// Passes packets on, with their descriptors, until the end, which is passed on too.
async fn pass(from: &Pipe, to: &Pipe) -> Carried {
    let mut carried = Carried {
        packets: Some(0),
        way: "copied",
        ..Carried::default()
    };
    let passed = pass_all(from, to, &mut carried).await;
    if let Err(error) = passed {
        carried.error = Some(error.to_string());
        // Whoever goes on sending is to notice.
        from.shutdown(Shutdown::Read);
    }
    to.shutdown(Shutdown::Write);
    carried
}

async fn pass_all(from: &Pipe, to: &Pipe, carried: &mut Carried) -> Result<(), PipeError> {
    let mut buffer = from.buffer();
    while let Some(piece) = from.recv(&mut buffer).await? {
        to.send(&buffer[..piece.length], &piece.fds).await?;
        carried.bytes += u64::try_from(piece.length).unwrap_or(u64::MAX);
        carried.packets = carried.packets.map(|packets| packets + 1);
    }
    Ok(())
}
