//! One connection of the server: reads, hands calls to their handlers, writes what they answer, in one task.
//!
//! A handler is polled once right here; if it then waits it goes on in a task of its own. Everything that a batch of
//! requests caused is written at once. The task leaves the thread to others after [`TURN_CALLS`] calls.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};
use nigh_socket::{Drain, DrainReason};
use tokio::time::Sleep;
use tonic::body::Body;

use super::super::{Session, WireError};
use super::answer;
use super::pace::Pace;
use crate::fd::Announced;
use crate::frame::head::{self, KnownPaths};
use crate::frame::{Accepted, Greeting, Header, Kind, Violation, decode};
use crate::io::Io;
use crate::link::keepalive::{Keepalive, Pulse};
use crate::link::line::Line;
use crate::link::{Later, Link, Received, Sender};
use crate::server::Calls;

/// Calls begun before other connections have their turn.
const TURN_CALLS: usize = 256;
/// Reads made before other connections have their turn.
const TURN_READS: usize = 16;
/// While more than this waits to be written, nothing is read: what is asked causes more.
const OUT_BYTES_STOP: usize = 4 * 1024 * 1024;
/// Clause 10.1.
const PINGS_MAX: usize = 1024;
/// Clause 10.3: how long a client has to close after the last call, when the server stops.
const LINGER: Duration = Duration::from_secs(1);

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Connection {
    link: Arc<Link<()>>,
    line: Line<Io>,
    calls: Calls,
    paths: KnownPaths,
    /// By the number of their path.
    uris: Vec<Option<Uri>>,
    pace: Pace,
    header_bytes_max: usize,
    keepalive: Option<Keepalive>,
    ending: Option<Running>,
    /// GOAWAY was sent; the clock runs once no call is left.
    is_leaving: bool,
    drain: Option<Drain>,
    linger: Option<Pin<Box<Sleep>>>,
    /// Calls begun since other connections had their turn.
    turn_calls: usize,
    /// Answers to pings in the queue.
    pongs: usize,
    is_deferred: bool,
    /// The stream of descriptors whose HEADERS have to come next (clause 13.5).
    ahead: Option<u32>,
    later: Later,
}

impl Connection {
    pub(super) fn new(
        io: Io,
        rest: BytesMut,
        (ours, theirs): (Greeting, Greeting),
        session: Session,
    ) -> Self {
        let limits = &session.limits.nigh;
        let keepalive = limits
            .keepalive
            .map(|interval| Keepalive::new(interval, limits.keepalive_timeout));
        let fds = io.link();
        let accepted = Accepted {
            descriptors: fds.is_some(),
            ..ours.accepted()
        };
        Self {
            link: Arc::new(Link::new((ours, theirs), (), fds)),
            line: Line::new(io, accepted, rest),
            calls: session.calls.clone(),
            paths: KnownPaths::new(ours.paths_max),
            uris: Vec::new(),
            pace: Pace::default(),
            header_bytes_max: ours.accepted().header_bytes_max,
            keepalive,
            drain: session.drain.clone(),
            ending: Some(Box::pin(async move { session.ending().await })),
            is_leaving: false,
            linger: None,
            turn_calls: 0,
            pongs: 0,
            is_deferred: false,
            ahead: None,
            later: Later::default(),
        }
    }

    /// Serves to the end: the client has left, or has nothing more to get.
    pub(super) async fn run(mut self) -> Result<(), WireError> {
        let served = std::future::poll_fn(|cx| self.poll(cx)).await;
        if let Err(WireError::Nigh(violation)) = &served {
            self.say_goodbye(1, &violation.to_string()).await;
        } else if matches!(served, Err(WireError::Dead)) {
            self.say_goodbye(2, "no sign of life").await;
        }
        served
    }

    async fn say_goodbye(&mut self, code: u32, text: &str) {
        self.link.lock().out.reason(Kind::GoAway, 0, code, text);
        // One try: a peer that breaks the rules is not waited for.
        let tried = std::future::poll_fn(|cx| Poll::Ready(self.poll_write(cx)));
        if let Err(error) = tried.await {
            tracing::debug!("no goodbye: {error}");
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        if let Some(fds) = &self.link.fds {
            fds.register_writer(cx);
        }
        let mut state = self.link.lock();
        state.driver_awake(cx.waker());
        // Woken by a handler's answer: let its neighbours append theirs before one write takes all.
        let is_early = !state.out.is_empty() && state.open > 0 && !self.is_deferred;
        drop(state);
        self.is_deferred = is_early;
        if is_early {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_ending(cx);
        self.poll_keepalive(cx)?;
        self.turn_calls = 0;
        for _ in 0..TURN_READS {
            let is_blocked = self.poll_write(cx)?.is_pending();
            let is_read = match self.poll_read(cx, is_blocked)? {
                ControlFlow::Break(()) => return Poll::Ready(Ok(())),
                ControlFlow::Continue(is_read) => is_read,
            };
            if self.turn_calls >= TURN_CALLS {
                break;
            }
            if !is_read && self.sleeps(is_blocked) {
                return self.poll_left(cx);
            }
        }
        let _ = self.poll_write(cx)?;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Goes to sleep unless something was queued meanwhile that can be written.
    fn sleeps(&self, is_blocked: bool) -> bool {
        let mut state = self.link.lock();
        if is_blocked {
            // The socket wakes this task; whoever appends need not.
            return true;
        }
        if !state.out.is_empty() {
            return false;
        }
        state.driver_asleep();
        true
    }

    /// Once leaving: the end of the connection, when no call is left and the client had its time (clause 10.3).
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        if !self.is_leaving {
            return Poll::Pending;
        }
        let linger = self
            .linger
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let is_over = linger.as_mut().poll(cx).is_ready();
        // Of a server that was replaced nobody is to notice anything: a call may be on its way from a client that has not
        // had its turn for longer than that. The front ends what is left at the end of the drain.
        let reason = self.drain.as_ref().and_then(Drain::reason);
        let is_over = is_over && reason != Some(DrainReason::Replaced);
        if is_over && self.link.lock().open == 0 {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) {
        let Some(ending) = &mut self.ending else {
            return;
        };
        if ending.as_mut().poll(cx).is_ready() {
            self.ending = None;
            self.is_leaving = true;
            let mut state = self.link.lock();
            state
                .out
                .reason(Kind::GoAway, 0, 0, "the server is stopping");
        }
    }

    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Result<(), WireError> {
        let Some(keepalive) = &mut self.keepalive else {
            return Ok(());
        };
        while let Poll::Ready(pulse) = keepalive.poll(self.line.reads, cx) {
            match pulse {
                Pulse::Dead => return Err(WireError::Dead),
                Pulse::Ask => self.link.lock().out.ping(Kind::Ping, b"alive?\0\0"),
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, WireError> {
        loop {
            if self.line.poll_write(cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let mut state = self.link.lock();
            state.feed(&mut self.later);
            state.carry();
            if state.out.is_empty() {
                drop(state);
                self.later.run();
                return Ok(Poll::Ready(()));
            }
            state.out.hand_over(&mut self.line.writing);
            self.pongs = 0;
            drop(state);
            self.later.run();
        }
    }

    /// Reads once and handles what came. `Break`: the client has left.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        is_blocked: bool,
    ) -> Result<ControlFlow<(), bool>, WireError> {
        let is_full = is_blocked && self.link.lock().out.bytes() >= OUT_BYTES_STOP;
        if is_full {
            return Ok(ControlFlow::Continue(false));
        }
        let handled = self.handle_frames(cx)?;
        if handled > 0 || self.turn_calls >= TURN_CALLS {
            return Ok(ControlFlow::Continue(true));
        }
        // With nobody at work the next frame is what this thread waits for.
        let is_idle = self.link.lock().open == 0;
        self.line.set_eager(is_idle);
        match self.line.poll_read(cx)? {
            Poll::Pending => Ok(ControlFlow::Continue(false)),
            Poll::Ready(0) => Ok(ControlFlow::Break(())),
            Poll::Ready(_) => {
                self.handle_frames(cx)?;
                Ok(ControlFlow::Continue(true))
            }
        }
    }

    /// Handles the frames that are there, as many as one turn allows.
    fn handle_frames(&mut self, cx: &mut Context<'_>) -> Result<usize, WireError> {
        let mut handled = 0;
        while self.turn_calls < TURN_CALLS
            && let Some(header) = self.line.decoder.frame()?
        {
            handled += 1;
            self.forget_ahead(header);
            match header.kind {
                Kind::Headers => self.begin(header, cx)?,
                Kind::Fds => self.take_descriptors(header)?,
                _ => self.handle(header)?,
            }
        }
        self.later.run();
        if let Some(fds) = &self.link.fds {
            fds.settle(self.line.decoder.offset());
        }
        Ok(handled)
    }

    /// Descriptors whose HEADERS did not come next were for a call that was over (clause 13.5).
    fn forget_ahead(&mut self, next: Header) {
        let is_next =
            |stream| stream == next.stream && matches!(next.kind, Kind::Headers | Kind::Fds);
        if let Some(stream) = self.ahead.take_if(|stream| !is_next(*stream))
            && let Some(fds) = &self.link.fds
        {
            fds.forget(stream);
        }
    }

    /// FDS (clause 13.3).
    fn take_descriptors(&mut self, header: Header) -> Result<(), Violation> {
        let decoder = &mut self.line.decoder;
        let (first, loss) = decode::fds(decoder.payload(), header.descriptors)?;
        let (at, stream) = (decoder.offset(), header.stream);
        decoder.skip();
        let Some(fds) = &self.link.fds else {
            return Ok(());
        };
        if self.link.lock().is_over(stream) {
            fds.discard(at);
            return Ok(());
        }
        fds.announced(Announced {
            stream,
            count: header.descriptors,
            first,
            loss,
            at,
        });
        self.ahead = fds.is_ahead(stream).then_some(stream);
        Ok(())
    }

    fn handle(&mut self, header: Header) -> Result<(), Violation> {
        let Header { kind, stream, .. } = header;
        let decoder = &mut self.line.decoder;
        let mut state = self.link.lock();
        match kind {
            Kind::Data => {
                let payload = decoder.take();
                return state.data(stream, payload, header.is_last(), &mut self.later);
            }
            Kind::Window => {
                let credit = decode::window(decoder.payload())?;
                state.window(stream, credit, &mut self.later)?;
            }
            Kind::Cancel => state.close(stream, &mut self.later),
            Kind::Ping => {
                self.pongs += 1;
                if self.pongs > PINGS_MAX {
                    return Err(Violation::PingFlood { max: PINGS_MAX });
                }
                state.out.ping(Kind::Pong, decoder.payload());
            }
            Kind::Headers | Kind::Trailers | Kind::Unseen => {
                return Err(Violation::Direction { kind });
            }
            Kind::Pong | Kind::GoAway | Kind::Fds | Kind::Ignorable(_) => {}
        }
        decoder.skip();
        Ok(())
    }

    /// Begins a call (clause 4.1) and runs its handler as far as it goes.
    fn begin(&mut self, header: Header, cx: &mut Context<'_>) -> Result<(), Violation> {
        self.turn_calls += 1;
        let stream = header.stream;
        let payload = self.line.decoder.payload();
        let (head, path) = head::decode_request(
            payload,
            header.is_plain(),
            &mut self.paths,
            self.header_bytes_max,
        )?;
        self.line.decoder.skip();
        let body = self.body(header)?;
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri(head.path, path)?;
        *request.headers_mut() = head.fields;
        self.ahead = None;
        let answer = self.calls.call_on_stream(request, stream);
        let sender = Sender::new(Arc::clone(&self.link), stream, true);
        let running: Running = Box::pin(async move {
            let answer = answer.await;
            answer::send(sender, answer).await;
        });
        self.start(stream, path, running, cx);
        Ok(())
    }

    /// Made once for each path that has a number; 0 is none.
    fn uri(&mut self, path: http::uri::PathAndQuery, number: usize) -> Result<Uri, Violation> {
        if let Some(Some(known)) = self.uris.get(number) {
            return Ok(known.clone());
        }
        let uri = uri(path).ok_or(Violation::Path)?;
        if number > 0 {
            if self.uris.len() <= number {
                self.uris.resize(number + 1, None);
            }
            if let Some(place) = self.uris.get_mut(number) {
                *place = Some(uri.clone());
            }
        }
        Ok(uri)
    }

    fn start(&mut self, stream: u32, path: usize, mut running: Running, cx: &mut Context<'_>) {
        if self.pace.is_quick(path) {
            let began = Instant::now();
            let polled = running.as_mut().poll(cx);
            self.pace.note(path, began.elapsed());
            if polled.is_ready() {
                return;
            }
        } else {
            self.pace.forget(path);
        }
        let task = tokio::spawn(running).abort_handle();
        match self.link.lock().slot(stream) {
            Some(slot) => slot.task = Some(task),
            // It was quicker than this.
            None => drop(task),
        }
    }

    /// The request's body; one that came with its head needs no channel.
    fn body(&mut self, header: Header) -> Result<Body, Violation> {
        let stream = header.stream;
        let decoder = &mut self.line.decoder;
        let next = if header.is_last() {
            None
        } else {
            decoder.frame()?
        };
        let whole =
            next.filter(|next| next.kind == Kind::Data && next.stream == stream && next.is_last());
        let mut state = self.link.lock();
        let slot = state.open(stream, self.link.ours.streams_max)?;
        slot.has_head = true;
        if header.is_last() {
            slot.arrived(0);
            return Ok(Body::empty());
        }
        let Some(whole) = whole else {
            drop(state);
            return Ok(Body::new(Received::new(
                Arc::clone(&self.link),
                stream,
                false,
            )));
        };
        slot.arrived(whole.length);
        state.data_with_head(whole.length)?;
        drop(state);
        Ok(Body::new(http_body_util::Full::new(decoder.take())))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Nobody is left to answer: handlers that still run are stopped.
        self.link.abort_all();
    }
}

/// What a handler sees as its request's URI: the same as over HTTP/2 on a Unix socket.
fn uri(path: http::uri::PathAndQuery) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("localhost"));
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}
