//! One caller, from its first packet to its last: reads calls, starts handlers, writes answers, keeps the times.
//!
//! One task does all of it, so answers need no lock and never interleave. It reads only while nothing waits to be
//! written and there is room for another call: a caller that does not read, or asks too much, waits in its own buffer.

mod arrival;
mod leave;
mod line;
mod thread;
mod travel;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nigh_socket::{Drain, Peer, Received, RecvError, SendError, UnixSeqpacket};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Style;
use super::calls::Shared;
use super::handler::{Caller, Failure, Request};
use super::running::{Done, Running};
use super::share::Share;
use super::timer::Timer;
use crate::link::{Flush, Inbound, InboundError, Message, Outbox};
use crate::wire::{Call, Features, Framing, Reason, Violation};
use arrival::Break;
use line::Line;
use thread::Pace;
pub(super) use travel::Agreed;
use travel::{Ended, waiting};

/// Why a connection ended early. It concerns nobody but its caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    #[error("{0}")]
    Violation(Violation),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Recv(#[from] RecvError),
    #[error("the runtime has ended")]
    RuntimeEnded,
    #[error("did not read an answer for {} ms", .0.as_millis())]
    NotRead(Duration),
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A call that was read and waits for room.
struct Held {
    call: Call,
    message: Message,
}

/// What the caller offered and got.
#[derive(Clone, Copy)]
enum Agreement {
    /// Nothing was read yet.
    Open,
    /// To be told with the next answer.
    Granted(Features),
    Told,
}

pub(crate) struct Connection {
    shared: Arc<Shared>,
    line: Line,
    peer: Peer,
    share: Share,
    inbound: Inbound,
    outbox: Outbox,
    running: Running,
    held: Option<Held>,
    agreement: Agreement,
    features: Features,
    gone: watch::Sender<bool>,
    /// The caller will send nothing more.
    has_ended: bool,
    is_unstamped: bool,
    /// To ask, beside being told: a task may be woken by a packet before it is woken by the drain.
    signal: Option<Drain>,
    drain: Option<Pin<Box<dyn Future<Output = Instant> + Send>>>,
    is_draining: bool,
    /// When a connection that does not pause is left all the same.
    patience: Timer,
    /// The kernel refuses what the caller sends from now on.
    is_shut: bool,
    /// A successor would not have it.
    stays: bool,
    message_timer: Timer,
    write_timer: Timer,
    pace: Pace,
    /// The right to a thread, which [`Ended::IsBusy`] is about.
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        socket: UnixSeqpacket,
        peer: Peer,
        drain: Option<Drain>,
    ) -> Self {
        let signal = drain.clone();
        let drain = drain.map(waiting);
        Self {
            inbound: Inbound::new(shared.framing, &shared.limits),
            share: shared.shares.of(&peer),
            shared,
            line: Line::Reactor(socket),
            peer,
            outbox: Outbox::default(),
            running: Running::default(),
            held: None,
            agreement: Agreement::Open,
            features: Features::NONE,
            gone: watch::Sender::new(false),
            has_ended: false,
            is_unstamped: false,
            signal,
            drain,
            is_draining: false,
            patience: Timer::default(),
            is_shut: false,
            stays: false,
            message_timer: Timer::default(),
            write_timer: Timer::default(),
            pace: Pace::default(),
            permit: None,
        }
    }

    /// Serves until the caller leaves, breaks a rule, the server has drained, or a successor could go on.
    async fn serve(&mut self) -> Result<Ended, Ending> {
        let ended = std::future::poll_fn(|cx| self.poll(cx)).await;
        if !matches!(ended, Ok(Ended::MayGo | Ended::IsBusy)) {
            self.gone.send_replace(true);
        }
        ended
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ended, Ending>> {
        self.watch_drain(cx);
        loop {
            let is_written = match self.flush(cx)? {
                Flush::Done => true,
                Flush::Blocked => false,
            };
            let mut progressed = false;
            while let Poll::Ready(done) = self.running.poll_done(cx) {
                self.answer(done);
                progressed = true;
            }
            progressed |= self.take_up(cx)?;
            if self.may_go() {
                return Poll::Ready(Ok(Ended::MayGo));
            }
            self.permit = self.wants_thread();
            if self.permit.is_some() {
                return Poll::Ready(Ok(Ended::IsBusy));
            }
            progressed |= self.shut(cx);
            let is_ready = self.held.is_none() && !self.inbound.has_more();
            if is_written && is_ready && !self.has_ended && self.outbox.is_empty() {
                match self.read(cx) {
                    Poll::Ready(read) => {
                        read?;
                        progressed = true;
                    }
                    Poll::Pending => {}
                }
            }
            if self.is_finished() {
                return Poll::Ready(Ok(Ended::Left));
            }
            if !progressed {
                return self.check_time(cx).map(Err);
            }
        }
    }

    /// Begins the calls of the last packet that there is room for; their answers then go out together.
    fn take_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let mut progressed = false;
        while self.has_room() {
            if let Some(held) = self.held.take() {
                self.start(cx, held)?;
            } else if self.inbound.has_more() {
                let message = self.inbound.next()?;
                self.keep_time();
                if let Some(message) = message {
                    self.receive(message)?;
                }
            } else {
                break;
            }
            progressed = true;
        }
        Ok(progressed)
    }

    /// A message that has begun has a time to be completed in.
    fn keep_time(&mut self) {
        self.message_timer.stop();
        if self.inbound.is_partial() {
            self.message_timer.run(self.shared.limits.message_time);
        }
    }

    fn is_finished(&self) -> bool {
        self.has_ended && self.held.is_none() && self.is_idle()
    }

    fn is_idle(&self) -> bool {
        let is_reading = !self.has_ended && self.inbound.is_partial();
        let is_done = self.running.count() == 0 && self.outbox.is_empty();
        !is_reading && !self.inbound.has_more() && is_done
    }

    fn has_room(&self) -> bool {
        let max = if self.features.has(Features::PIPELINING) {
            self.shared.limits.calls_in_flight_max.max(1) as usize
        } else {
            1
        };
        let count = self.running.count();
        let bytes = self.running.bytes() < self.shared.limits.in_flight_bytes_max;
        self.outbox.has_room() && (count == 0 || count < max && bytes)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<Flush, Ending> {
        let sent = self.outbox.sent();
        let flushed = self
            .outbox
            .flush(|slices, fds| match self.line.poll_send(cx, slices, fds) {
                Poll::Ready(sent) => sent,
                Poll::Pending => Err(SendError::WouldBlock),
            });
        let flushed = match flushed {
            Ok(flushed) => flushed,
            // The caller has gone: what it asked for is still done, its answers go nowhere. drpc §7.7
            Err(SendError::Closed | SendError::Reset) => {
                self.outbox = Outbox::default();
                self.gone.send_replace(true);
                Flush::Done
            }
            Err(error) => return Err(error.into()),
        };
        if flushed == Flush::Done || sent != self.outbox.sent() {
            self.write_timer.stop();
        }
        if flushed == Flush::Blocked {
            self.write_timer.run(self.shared.limits.write_time);
        }
        Ok(flushed)
    }

    /// Receives one packet and looks at what it completes.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let accepted = self.arrive(cx);
        let accepted = std::task::ready!(accepted);
        self.expect_no_empty_packets();
        let message = match accepted {
            Ok(Some(message)) => message,
            Ok(None) => {
                let time = self.shared.limits.message_time;
                self.message_timer.run(time);
                // A thread never gets to where times are looked at while packets keep coming.
                if self.line.is_on_a_thread() && self.message_timer.is_over() {
                    return Poll::Ready(Err(self.stalled().into()));
                }
                return Poll::Ready(Ok(()));
            }
            Err(Break::End) => return Poll::Ready(self.end()),
            Err(Break::Recv(error)) => return Poll::Ready(Err(error.into())),
            Err(Break::Inbound(InboundError {
                violation,
                tell_legacy,
            })) => {
                if tell_legacy {
                    self.tell_unreadable();
                }
                return Poll::Ready(Err(violation.into()));
            }
        };
        self.keep_time();
        Poll::Ready(self.receive(message))
    }

    /// No chunk is empty: without stamps on packets receiving takes less time.
    fn expect_no_empty_packets(&mut self) {
        if !self.is_unstamped && self.inbound.framing() == Some(Framing::Chunked) {
            self.is_unstamped = true;
            // Where the kernel refuses, stamps are as good.
            let _ = self.line.set_empty_packets(false);
        }
    }

    /// While draining, what the kernel has and the reactor has not reported yet: nothing that was sent is left behind.
    fn last_try(&self, buffer: &mut [u8]) -> Option<Result<Received, RecvError>> {
        if !self.is_draining {
            return None;
        }
        match self.line.try_recv(buffer) {
            Err(RecvError::WouldBlock) => None,
            received => Some(received),
        }
    }

    /// The caller will send nothing more; running calls are told. drpc §7.7
    fn end(&mut self) -> Result<(), Ending> {
        self.has_ended = true;
        if self.is_shut {
            // Or could send no more: it may well be there, and the rest of a message that had begun has failed.
            return Ok(());
        }
        self.gone.send_replace(true);
        if self.inbound.is_partial() {
            let received = self.inbound.received();
            return Err(Violation::EndInMessage { received }.into());
        }
        Ok(())
    }

    fn receive(&mut self, mut message: Message) -> Result<(), Ending> {
        let bytes = std::mem::take(&mut message.bytes);
        let Ok(call) = Call::read(bytes) else {
            self.outbox.push(self.style().unreadable());
            return Ok(());
        };
        if self.features.has(Features::DESCRIPTORS) && !message.fds_lost {
            let (received, announced) = (message.fds_received, call.extensions.descriptors);
            if received != announced as usize || received != message.fds.len() {
                return Err(Violation::Descriptors {
                    received,
                    announced,
                }
                .into());
            }
        }
        if call.extensions.cancel && self.features.has(Features::CANCEL) {
            self.running.cancel(call.sequence);
            return Ok(());
        }
        if let Agreement::Open = self.agreement {
            let granted = call.extensions.features.and(self.shared.features);
            let granted = match self.inbound.framing() {
                Some(Framing::Chunked) => granted,
                // Such a packet is one message.
                Some(Framing::Legacy) | None => granted.without(Features::ROWS),
            };
            self.agreement = if call.extensions.features == Features::NONE {
                Agreement::Told
            } else {
                Agreement::Granted(granted)
            };
        }
        self.held = Some(Held { call, message });
        Ok(())
    }

    fn start(&mut self, cx: &mut Context<'_>, held: Held) -> Result<(), Ending> {
        let Held { call, message } = held;
        let sequence = call.sequence;
        let refuse = |failure| Done {
            sequence,
            outcome: Err(failure),
            panicked: false,
        };
        if self.signal.as_ref().is_some_and(Drain::refuses_calls) {
            self.shared.counters.calls_refused_draining();
            self.answer(refuse(Failure::because(Reason::Unavailable)));
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let found = shared.find(&self.peer, &call).and_then(|method| {
            let place = self.share.take();
            let place = place.ok_or_else(|| Failure::because(Reason::Unavailable));
            Ok((method, place?))
        });
        let (method, place) = match found {
            Ok(found) => found,
            Err(failure) => {
                self.answer(refuse(failure));
                return Ok(());
            }
        };
        let takes_descriptors = self.features.has(Features::DESCRIPTORS);
        if takes_descriptors && message.fds_lost {
            self.answer(refuse(Failure::because(Reason::DescriptorsLost)));
            return Ok(());
        }
        let deadline = call.extensions.deadline;
        let deadline = deadline.filter(|_| self.features.has(Features::DEADLINE));
        let request = Request {
            module: call.module,
            method: call.method,
            body: call.body,
            peer: self.peer.clone(),
            descriptors: if takes_descriptors {
                message.fds
            } else {
                Vec::new()
            },
            deadline: deadline.and_then(|time| Instant::now().checked_add(time)),
            caller: Caller::new(self.gone.subscribe()),
        };
        self.shared.counters.calls_handled();
        self.pace.call();
        tracing::trace!(method = %method.name, sequence, "call from {}", self.peer);
        if let Some(done) = self.running.start(cx, (sequence, place), method, request) {
            self.answer(done);
        }
        Ok(())
    }

    fn answer(&mut self, done: Done) {
        if done.panicked {
            self.shared.counters.handler_panics();
        }
        // The answer that grants is already in the style that was granted.
        let grant = match self.agreement {
            Agreement::Granted(features) => {
                self.agreement = Agreement::Told;
                self.features = features;
                let window = self.shared.limits.calls_in_flight_max.max(1);
                let window = if features.has(Features::PIPELINING) {
                    window
                } else {
                    0
                };
                Some((features, window))
            }
            Agreement::Open | Agreement::Told => None,
        };
        let outgoing = self.style().respond(done.sequence, done.outcome, grant);
        self.outbox.push(outgoing);
        if grant.is_some_and(|(features, _)| features.has(Features::ROWS)) {
            self.outbox.use_rows();
            self.inbound.use_rows();
        }
    }

    fn style(&self) -> Style {
        let framing = self.inbound.framing().unwrap_or(Framing::Chunked);
        Style::new(framing, self.features, &self.shared.limits)
    }

    /// Says, once and without waiting, to what was probably a legacy caller that it cannot be read. drpc §4.4
    fn tell_unreadable(&mut self) {
        let style = Style::new(Framing::Legacy, Features::NONE, &self.shared.limits);
        self.outbox.push(style.unreadable());
        // The connection ends in any case.
        let _ = self
            .outbox
            .flush(|slices, fds| self.line.try_send(slices, fds));
    }

    fn check_time(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.message_timer.poll(cx).is_ready() {
            return Poll::Ready(self.stalled().into());
        }
        self.write_timer
            .poll(cx)
            .map(|()| Ending::NotRead(self.shared.limits.write_time))
    }

    fn stalled(&self) -> Violation {
        Violation::Stalled {
            received: self.inbound.received(),
            waited: self.shared.limits.message_time,
        }
    }
}
