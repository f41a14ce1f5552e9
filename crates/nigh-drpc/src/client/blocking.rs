//! The client for programs without a runtime: one call at a time, on the caller's thread.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nigh_socket::blocking::{UnixSeqpacket, connect_packet};
use nigh_socket::{Address, Peer, RecvError, SendError};

use super::TRIES_MAX;
use super::error::{CallError, TransportError};
use super::exchange::{Again, Draft, Exchange, Reply};
use super::link::take;
use super::options::{ClientOptions, Pauses, Speaks};
use crate::link::{Flush, Inbound, Message, Outbox, Place, with_scratch};
use crate::wire::{Call, Features, Framing, Status, Violation};

/// What the kernel takes for a timeout: none would be no time at all to it, and more it cannot count.
const WRITE_TIME_MIN: Duration = Duration::from_millis(1);
const WRITE_TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Calls methods of one server, blocking the thread. Connects when it is needed, and again.
#[derive(Debug)]
pub struct BlockingClient {
    address: Address,
    options: Arc<ClientOptions>,
    link: Option<Link>,
    server: Option<Peer>,
    pauses: Pauses,
}

#[derive(Debug)]
struct Link {
    socket: UnixSeqpacket,
    exchange: Exchange,
    inbound: Inbound,
    outbox: Outbox,
    /// Calls that were given up and are still to be answered.
    given_up: HashSet<i64>,
    has_answered: bool,
    /// No descriptors come: receiving is simpler then.
    is_plain: bool,
    /// The timeout that the socket has.
    timeout: Option<Duration>,
}

impl BlockingClient {
    /// A client of the server at `address`, connected.
    ///
    /// # Errors
    /// When the server cannot be reached, or [`Speaks::Probe`] finds no dRPC server.
    pub fn connect(address: Address, options: ClientOptions) -> Result<Self, CallError> {
        let mut client = Self::lazy(address, options);
        client.with_link(None, |_, _| Ok(()))?;
        Ok(client)
    }

    /// As [`connect`](Self::connect), connecting with the first call only.
    #[must_use]
    pub fn lazy(address: Address, options: ClientOptions) -> Self {
        Self {
            address,
            options: Arc::new(options),
            link: None,
            server: None,
            pauses: Pauses::new(),
        }
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Who the server is, by what the kernel says of the latest connection; `None` before the first.
    #[must_use]
    pub fn server(&self) -> Option<&Peer> {
        self.server.as_ref()
    }

    /// Calls `method` of `module`; without deadline and descriptors.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn call(
        &mut self,
        module: i32,
        method: i32,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, CallError> {
        Ok(self.request(module, method).body(body).send()?.body)
    }

    /// Prepares a call of `method` of `module`.
    pub fn request(&mut self, module: i32, method: i32) -> BlockingCall<'_> {
        BlockingCall {
            client: self,
            draft: Draft {
                module,
                method,
                ..Draft::default()
            },
            deadline: None,
        }
    }

    /// The connection, which is made if there is none.
    fn link(&mut self, deadline: Option<Instant>) -> Result<&mut Link, Fault> {
        if self.link.is_none() {
            if let Some(pause) = self.pauses.pause() {
                std::thread::sleep(left(deadline)?.map_or(pause, |left| left.min(pause)));
            }
            let framing = match self.options.speaks {
                Speaks::Only(framing) => framing,
                Speaks::Probe => Framing::Chunked,
            };
            let mut link = self.open(framing, deadline)?;
            if self.options.speaks == Speaks::Probe {
                match link.probe(deadline, &self.options) {
                    Ok(()) => {}
                    Err(Fault::Error(CallError::PeerMisbehaved(Violation::LegacyPeer))) => {
                        link = self.open(Framing::Legacy, deadline)?;
                    }
                    Err(fault) => return Err(fault),
                }
            }
            self.link = Some(link);
        }
        let link = self.link.as_mut();
        link.ok_or_else(|| CallError::transport(TransportError::Closed).into())
    }

    fn open(&mut self, framing: Framing, deadline: Option<Instant>) -> Result<Link, CallError> {
        let connect = self.options.connecting(left(deadline)?);
        let connected = connect_packet(&self.address, &connect);
        let (mut socket, peer) = connected.map_err(|error| CallError::Connect(Arc::new(error)))?;
        let write_time = self.options.limits.write_time;
        let set = socket.set_write_timeout(Some(write_time.clamp(WRITE_TIME_MIN, WRITE_TIME_MAX)));
        set.map_err(|error| CallError::transport(SendError::System(error)))?;
        self.server = Some(peer);
        if framing == Framing::Chunked {
            // No chunk is empty. Where the kernel refuses, stamps are as good.
            let _ = socket.set_empty_packets(false);
        }
        // One call at a time has none to share a packet with.
        let offered = self.options.features.without(Features::ROWS);
        Ok(Link {
            socket,
            exchange: Exchange::new(framing, offered),
            inbound: Inbound::new(Ok(framing), &self.options.limits),
            outbox: Outbox::default(),
            given_up: HashSet::new(),
            has_answered: false,
            is_plain: false,
            timeout: None,
        })
    }

    fn send(&mut self, draft: Draft, deadline: Option<Instant>) -> Result<Reply, CallError> {
        let mut draft = Some(draft);
        self.with_link(deadline, |link, options| {
            link.call(&mut draft, deadline, options)
        })
    }

    /// Does something with a connection, and again with the next one while the server leaves before it got anything.
    fn with_link<T>(
        &mut self,
        deadline: Option<Instant>,
        mut work: impl FnMut(&mut Link, &ClientOptions) -> Result<T, Fault>,
    ) -> Result<T, CallError> {
        let options = Arc::clone(&self.options);
        for _ in 0..TRIES_MAX {
            let done = self.link(deadline).and_then(|link| work(link, &options));
            let is_broken = match &done {
                Ok(_) => false,
                Err(Fault::Unsent) => true,
                Err(Fault::Error(error)) => {
                    matches!(
                        error,
                        CallError::Transport(_) | CallError::PeerMisbehaved(_)
                    )
                }
            };
            if is_broken && let Some(link) = self.link.take() {
                self.pauses.note(link.has_answered, &options);
            }
            match done {
                Ok(done) => return Ok(done),
                Err(Fault::Unsent) => {}
                Err(Fault::Error(error)) => return Err(error),
            }
        }
        Err(CallError::unsent(TRIES_MAX))
    }
}

/// Why something was not done on a connection.
enum Fault {
    /// The server has not got the call, and will not on this connection.
    Unsent,
    Error(CallError),
}

impl<E: Into<CallError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Link {
    fn probe(&mut self, deadline: Option<Instant>, options: &ClientOptions) -> Result<(), Fault> {
        let Call { module, method, .. } = Call::probe(0);
        let mut draft = Some(Draft {
            module,
            method,
            ..Draft::default()
        });
        match self.call(&mut draft, deadline, options) {
            Ok(_) => Ok(()),
            Err(Fault::Error(CallError::Status { status, .. }))
                if status != Status::FailedUnmarshalCall =>
            {
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Makes the call in `draft`, which is left there if it was not sent.
    fn call(
        &mut self,
        draft: &mut Option<Draft>,
        deadline: Option<Instant>,
        options: &ClientOptions,
    ) -> Result<Reply, Fault> {
        let has_fds = draft.as_ref().is_some_and(|draft| !draft.fds.is_empty());
        if has_fds && !self.exchange.is_settled() {
            self.probe(deadline, options)?;
        }
        // A server that answers in order is asked when it is done with what was given up. drpc §8.3
        let is_pipelined = self.exchange.features().has(Features::PIPELINING);
        while !self.given_up.is_empty() && !is_pipelined {
            let (sequence, _) = self.receive(deadline, options).map_err(before_a_call)?;
            self.forget(sequence)?;
        }
        let time = left(deadline)?;
        let Some(call) = draft.take() else {
            return Err(CallError::transport(TransportError::Dropped).into());
        };
        let (sequence, outgoing) = self.exchange.call(call, time, &options.limits)?;
        self.outbox.push(outgoing);
        if let Some(again) = self.write(options)? {
            *draft = Some(again.draft);
            if !again.has_begun {
                return Err(Fault::Unsent);
            }
        }
        loop {
            match self.receive(deadline, options) {
                Ok((found, outcome)) if found == sequence => return Ok(outcome?),
                Ok((other, _)) => self.forget(other)?,
                // It had nothing to say about the part that it got.
                Err(error) if draft.is_some() => return Err(before_a_call(error)),
                Err(CallError::Deadline) => {
                    self.given_up.insert(sequence);
                    if let Some(cancel) = self.exchange.cancel(sequence) {
                        self.outbox.push(cancel);
                        self.write(options)?;
                    }
                    return Err(CallError::Deadline.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn forget(&mut self, sequence: i64) -> Result<(), Violation> {
        if self.given_up.remove(&sequence) {
            Ok(())
        } else {
            Err(Violation::Sequence { sequence })
        }
    }

    /// Writes all of the outbox, within the write time: half a message would be the end of the connection. Returns a call
    /// that the server has not got, and will not.
    fn write(&mut self, options: &ClientOptions) -> Result<Option<Again>, CallError> {
        let waited = options.limits.write_time;
        let socket = &self.socket;
        let mut packets = 0_u32;
        let mut by = None;
        // The socket's own timeout is for one packet; most messages have no other.
        let flushed = self.outbox.flush(|slices, fds| {
            if packets > 0 {
                let now = Instant::now();
                let by = *by.get_or_insert(now.checked_add(waited));
                if by.is_some_and(|by| now >= by) {
                    return Err(SendError::TimedOut);
                }
            }
            packets += 1;
            socket.send(slices, fds)
        });
        match flushed {
            Ok(Flush::Done) => Ok(None),
            Err(SendError::TimedOut) | Ok(Flush::Blocked) => {
                Err(CallError::transport(TransportError::NotRead { waited }))
            }
            // What the server had said before it left is still to be read.
            Err(SendError::Closed | SendError::Reset) => {
                let unsent = self.outbox.abandon();
                Ok(unsent.into_iter().find_map(Again::of))
            }
            Err(error) => Err(CallError::transport(error)),
        }
    }

    /// The next answer, and whose it is.
    fn receive(
        &mut self,
        deadline: Option<Instant>,
        options: &ClientOptions,
    ) -> Result<(i64, Result<Reply, CallError>), CallError> {
        let waited = options.limits.message_time;
        let mut complete_by = None;
        let message = loop {
            let by = [deadline, complete_by].into_iter().flatten().min();
            match self.receive_packet(by) {
                Ok(Some(message)) => break message,
                Ok(None) => {
                    complete_by = complete_by.or_else(|| Instant::now().checked_add(waited));
                }
                // Not by the clock: the kernel's timeout may end a little before what was asked for.
                Err(CallError::Deadline)
                    if complete_by.is_some_and(|by| deadline.is_none_or(|at| by <= at)) =>
                {
                    let received = self.inbound.received();
                    return Err(Violation::Stalled { received, waited }.into());
                }
                Err(error) => return Err(error),
            }
        };
        let answer = self.exchange.answer(message)?;
        self.has_answered = true;
        if !self.is_plain && !self.exchange.may_bring_descriptors() {
            self.is_plain = true;
            // An older kernel lets them in, and they are closed unseen.
            let _ = self.socket.set_pass_rights(false);
        }
        Ok(answer)
    }

    fn receive_packet(&mut self, by: Option<Instant>) -> Result<Option<Message>, CallError> {
        let timeout = left(by)?;
        if timeout != self.timeout {
            let set = self.socket.set_read_timeout(timeout);
            set.map_err(|error| CallError::transport(RecvError::System(error)))?;
            self.timeout = timeout;
        }
        let (socket, inbound) = (&self.socket, &mut self.inbound);
        if let Some((received, packet)) = inbound.receive(|memory| socket.recv_behind(memory)) {
            return match received {
                Err(RecvError::TimedOut) => Err(CallError::Deadline),
                received => take(inbound, received, Place::Behind(packet)),
            };
        }
        let room = inbound.room();
        with_scratch(room, |buffer| {
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            match socket.recv(buffer) {
                Err(RecvError::TimedOut) => Err(CallError::Deadline),
                received => take(inbound, received, Place::Buffer(buffer)),
            }
        })
    }
}

/// A connection that ended before the call was out has lost nothing.
fn before_a_call(error: CallError) -> Fault {
    match error.is_end() {
        true => Fault::Unsent,
        false => error.into(),
    }
}

/// What is left until `deadline`.
fn left(deadline: Option<Instant>) -> Result<Option<Duration>, CallError> {
    let Some(deadline) = deadline else {
        return Ok(None);
    };
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(CallError::Deadline),
        left => Ok(Some(left)),
    }
}

/// A call that is being prepared.
#[derive(Debug)]
#[must_use]
pub struct BlockingCall<'a> {
    client: &'a mut BlockingClient,
    draft: Draft,
    deadline: Option<Duration>,
}

impl BlockingCall<'_> {
    /// The method's argument.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.draft.body = body.into();
        self
    }

    /// How long to wait, connecting included. A server of this project is told.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Descriptors to go with the call, at most 253. Only servers of this project take them.
    pub fn descriptors(mut self, descriptors: Vec<OwnedFd>) -> Self {
        self.draft.fds = descriptors;
        self
    }

    /// Makes the call, blocking the thread. After [`CallError::Deadline`] the connection stays usable.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn send(self) -> Result<Reply, CallError> {
        let Self {
            client,
            draft,
            deadline,
        } = self;
        let deadline = deadline.and_then(|time| Instant::now().checked_add(time));
        client.send(draft, deadline)
    }
}
