//! The connection between predecessor and successor: both verified, one message per packet, every wait bounded.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::error::{HandoverError, Step};
use super::message::{MESSAGE_BYTES_MAX, Message, RefusalReason};
use super::options::HandoverOptions;
use crate::fact::Fact;
use crate::message::{Packet, Received, RecvError, SendError};
use crate::peer::Peer;
use crate::process::Process;
use crate::seqpacket::UnixSeqpacket;

/// Which one the other process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    Predecessor,
    Successor,
}

/// A verified connection to the other process.
#[derive(Debug)]
pub(crate) struct Leash {
    socket: Arc<UnixSeqpacket>,
    peer: Peer,
    /// Unknown only where that was allowed.
    process: Option<Process>,
}

impl Leash {
    /// Verifies the other side: its user by the policy, its process by a pidfd of the kernel's.
    pub(crate) fn new(
        socket: UnixSeqpacket,
        peer: Peer,
        options: &HandoverOptions,
        who: Other,
    ) -> Result<Self, HandoverError> {
        let verdict = options.policy.evaluate(&peer);
        if !verdict.admits() {
            return Err(HandoverError::NotAdmitted {
                peer: peer.to_string(),
                verdict: verdict.to_string(),
            });
        }
        let process = living(&peer, options, who)?;
        // Each message then says who wrote it: the process that called `listen` may have handed over since.
        socket
            .set_pass_credentials(true)
            .map_err(HandoverError::System)?;
        Ok(Self {
            socket: Arc::new(socket),
            peer,
            process,
        })
    }

    /// Who is on the other side, as the kernel recorded it.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) async fn send(
        &self,
        step: Step,
        message: &Message,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), HandoverError> {
        let bytes = message.encode();
        let sent = self
            .socket
            .send(&[IoSlice::new(&bytes)], fd.as_slice())
            .await;
        sent.map_err(|source| match source {
            SendError::Closed | SendError::Reset => HandoverError::Left(step),
            source => HandoverError::Send { step, source },
        })
    }

    /// The next message with its descriptors, within `time`.
    ///
    /// Cancel safe: dropped before it is ready, nothing was received.
    pub(crate) async fn receive(
        &mut self,
        step: Step,
        time: Duration,
    ) -> Result<(Message, Option<OwnedFd>), HandoverError> {
        match tokio::time::timeout(time, self.next(step)).await {
            Ok(received) => received,
            Err(_) => Err(HandoverError::Silent { step, waited: time }),
        }
    }

    /// The next message, however long that takes. A refusal is an error.
    ///
    /// Cancel safe, as [`receive`](Self::receive).
    pub(crate) async fn next(
        &mut self,
        step: Step,
    ) -> Result<(Message, Option<OwnedFd>), HandoverError> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let packet = match self.socket.recv(&mut buffer).await {
            Ok(Received::Packet(packet)) => packet,
            Ok(Received::End) | Err(RecvError::Reset) => return Err(HandoverError::Left(step)),
            Err(source) => return Err(HandoverError::Receive { step, source }),
        };
        self.note_writer(&packet);
        let bytes = buffer.get(..packet.length).unwrap_or_default();
        let message =
            Message::decode(bytes).map_err(|source| HandoverError::Malformed { step, source })?;
        let mut fds = packet.fds;
        if fds.len() != message.descriptors() {
            return Err(unexpected(step, &message, fds.len()));
        }
        match message {
            Message::Refused { reason, detail } => Err(HandoverError::Refused {
                step,
                reason,
                detail,
            }),
            message => Ok((message, fds.pop())),
        }
    }

    /// Tells the other side why it goes no further; it may be gone.
    pub(crate) fn refuse(&self, reason: RefusalReason, detail: &str) {
        let detail = detail.to_owned();
        if let Err(error) = self.teller().tell(&Message::Refused { reason, detail }) {
            tracing::debug!(%error, "the other process is not told why the hand-over ended");
        }
    }

    /// What can say something without waiting, for as long as the connection lives.
    pub(crate) fn teller(&self) -> Teller {
        Teller(Arc::clone(&self.socket))
    }

    /// Whether the other process certainly runs no more.
    pub(crate) fn is_dead(&self) -> Result<bool, HandoverError> {
        match &self.process {
            Some(process) => Ok(!process.is_alive()?),
            // Its end of the connection is closed, and nothing better is known.
            None => Ok(true),
        }
    }

    /// The process that really wrote is the one to watch, if the kernel names it.
    fn note_writer(&mut self, packet: &Packet) {
        let writer = packet.sender.as_ref().map(|sender| sender.process());
        if let Some(Fact::Known { value, .. }) = writer {
            self.process = Some(value.clone());
        }
    }
}

/// The sending side of a connection.
#[derive(Debug)]
pub(crate) struct Teller(Arc<UnixSeqpacket>);

impl Teller {
    pub(crate) fn tell(&self, message: &Message) -> Result<(), SendError> {
        self.0.try_send(&[IoSlice::new(&message.encode())], &[])
    }
}

pub(crate) fn unexpected(step: Step, message: &Message, descriptors: usize) -> HandoverError {
    HandoverError::Unexpected {
        step,
        message: message.name(),
        descriptors,
    }
}

/// The peer's process, alive; `None` only where the options allow that.
fn living(
    peer: &Peer,
    options: &HandoverOptions,
    who: Other,
) -> Result<Option<Process>, HandoverError> {
    let refuse = |why: String| HandoverError::NoProcess {
        peer: peer.to_string(),
        why,
    };
    let Peer::Local(local) = peer else {
        return Err(refuse("it is not on this machine".to_owned()));
    };
    match local.process() {
        Fact::Known { value, .. } => match value.is_alive()? {
            true => Ok(Some(value.clone())),
            // Whoever called `listen` may have handed over since; the messages name who it is now.
            false if who == Other::Predecessor => Ok(Some(value.clone())),
            false => Err(refuse("it has ended".to_owned())),
        },
        Fact::Unknown { .. } if options.unknown_process => Ok(None),
        Fact::Unknown { why, .. } => Err(refuse(why.to_string())),
    }
}
