//! Where calls meet descriptors: which service takes them, and what happens when a call begins and ends.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use super::Descriptors;
use super::call::Call;
use super::error::{Incapable, Loss};
use super::limits::FdLimits;
use super::link::{Link, Peering};

/// The call's number on its connection, in the request's headers between two nigh ends only.
pub(crate) const CALL_HEADER: HeaderName = HeaderName::from_static("nigh-call");

/// The services of a server that take descriptors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receivers {
    services: HashMap<String, FdLimits>,
}

impl Receivers {
    pub(crate) fn add(&mut self, service: String, limits: FdLimits) {
        self.services.insert(service, limits);
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.services.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// What a connection must be ready for.
    pub(crate) fn together(&self) -> FdLimits {
        let all = self.services.values().copied();
        all.reduce(FdLimits::or).unwrap_or_default()
    }

    fn of_path(&self, path: &str) -> Option<&FdLimits> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.services.get(service)
    }
}

/// A call that a server answers, with its descriptors; what nobody took is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct ServerCall {
    call: Arc<Call>,
    link: Arc<Link>,
    id: Option<u64>,
}

impl ServerCall {
    /// Takes the call's number out of its headers and finds what came for it. `None`: the call carries nothing, for
    /// the reason that [`Arrival`](crate::Arrival) has.
    pub(crate) fn begin(link: &Arc<Link>, headers: &mut HeaderMap) -> Result<Option<Self>, Status> {
        let bad = || Status::invalid_argument("nigh-call: not a number of a new call");
        let id = match link.peering() {
            Peering::Nigh(_) => headers.remove(CALL_HEADER),
            _ => None,
        };
        if id.is_none() && link.inodes().is_none() {
            return Ok(None);
        }
        let id = id.map(|id| id.to_str().ok().and_then(|id| id.parse().ok()));
        let id = id.map(|id| id.ok_or_else(bad)).transpose()?;
        let call = match id {
            Some(id) => link.claim(id).ok_or_else(bad)?,
            None => Call::incapable(match link.peering() {
                Peering::Not(why) => why,
                _ => Incapable::NotNigh,
            }),
        };
        Ok(Some(Self::claimed(call, link, id)))
    }

    /// As [`begin`](Self::begin), on the nigh wire, where a call's number is its stream.
    pub(crate) fn on_stream(link: &Arc<Link>, stream: u32) -> Result<Self, Status> {
        let id = u64::from(stream);
        let busy = || Status::internal("the stream's former call has not ended");
        let call = link.claim(id).ok_or_else(busy)?;
        Ok(Self::claimed(call, link, Some(id)))
    }

    fn claimed(call: Arc<Call>, link: &Arc<Link>, id: Option<u64>) -> Self {
        if id.is_some() && !matches!(link.peering(), Peering::Nigh(hello) if hello.accepts) {
            // It has said that it takes none [3.4].
            call.close(Incapable::NotAccepted);
        }
        let link = Arc::clone(link);
        Self { call, link, id }
    }

    /// Applies what the called service takes.
    pub(crate) fn admit(&self, receivers: &Receivers, path: &str) -> Result<(), Status> {
        let limits = receivers.of_path(path);
        let admitted = self.call.admit(limits.map(|limits| limits.per_call_max));
        admitted.map_err(Loss::status)?;
        if limits.is_some_and(|limits| limits.inode_table) && self.link.inodes().is_some() {
            self.call.go_loose(&self.link);
        }
        Ok(())
    }

    pub(crate) fn handle(&self) -> Descriptors {
        Descriptors {
            call: Arc::clone(&self.call),
        }
    }

    /// Completes when descriptors of this call were lost.
    pub(crate) async fn lost(&self) -> Status {
        self.call.lost().await.status()
    }

    /// Lets leave what a handler attached to its answer.
    pub(crate) fn send(
        this: Option<&Self>,
        reply: &Descriptors,
        otherwise: Incapable,
    ) -> Result<(), Status> {
        let sent = match this {
            Some(this) => this.call.adopt(&reply.call),
            None if reply.call.has_loose() => Err(Incapable::NoTable),
            None if reply.call.has_attached() => Err(otherwise),
            None => Ok(()),
        };
        sent.map_err(Incapable::status)
    }

    /// Watches the answer: the call ends with it, and fails if descriptors of it are lost meanwhile.
    pub(crate) fn watch(self, body: Body) -> Body {
        Body::new(AnswerWithFds {
            body: Some(body),
            held: None,
            call: self,
        })
    }
}

impl Drop for ServerCall {
    fn drop(&mut self) {
        self.call.end_receiving();
        if let Some(id) = self.id {
            self.link.end(id);
        }
    }
}

/// An answer, which fails when descriptors of its call are lost.
///
/// Trap: nothing on the wire tells grpcfd's receiver of a descriptor that the kernel refused [9.6]. So the status waits until
/// all of them have left, and an empty DATA frame goes before it, for those that have no byte to leave with.
struct AnswerWithFds {
    body: Option<Body>,
    /// The end of the answer, while descriptors are on their way.
    held: Option<Option<Result<Frame<Bytes>, Status>>>,
    call: ServerCall,
}

impl AnswerWithFds {
    /// Passes a frame on, or holds it back if it is the end.
    fn pass(
        &mut self,
        frame: Option<Result<Frame<Bytes>, Status>>,
        cx: &Context<'_>,
    ) -> Option<Result<Frame<Bytes>, Status>> {
        let is_end = match &frame {
            Some(Ok(frame)) => frame.is_trailers(),
            Some(Err(_)) => false,
            None => true,
        };
        if is_end && self.call.call.poll_loose(cx) {
            self.held = Some(frame);
            return Some(Ok(Frame::data(Bytes::new())));
        }
        frame
    }
}

impl HttpBody for AnswerWithFds {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        // At once, also when the handler has nothing to say for long; it is dropped with its stream.
        if let Some(loss) = this.call.call.poll_loss(cx) {
            this.body = None;
            let trailers = loss.status().into_http::<()>().into_parts().0.headers;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if this.held.is_some() {
            if this.call.call.poll_loose(cx) {
                return Poll::Pending;
            }
            return Poll::Ready(this.held.take().flatten());
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(this.pass(frame, cx))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
            && !self.call.call.has_loose()
            && self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// A call that a client makes, bound to a connection; dropped, it ends there.
#[derive(Debug)]
pub(crate) struct ClientCall {
    call: Arc<Call>,
    link: Arc<Link>,
    id: Option<u64>,
    is_over: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ClientCall {
    /// Binds a call to the connection it is about to go over, and writes its number into `headers`.
    ///
    /// # Errors
    /// When something is attached that this connection cannot carry; nothing of the call has been sent then.
    pub(crate) async fn begin(
        link: &Arc<Link>,
        asked: &mut Option<Descriptors>,
        headers: &mut HeaderMap,
    ) -> Result<Self, Status> {
        let is_sender = asked.is_some();
        let call = Arc::clone(&asked.get_or_insert_default().call);
        let incapable = Self::check(&call, link)?;
        if link.inodes().is_some() {
            call.go_loose(link);
        }
        let mut permitted = None;
        let id = match incapable {
            Some(why) => {
                call.close(why);
                None
            }
            None => {
                if is_sender {
                    // A server is told of no more calls with descriptors than it has said it takes.
                    let permit = Arc::clone(&link.permits).acquire_owned().await;
                    permitted = permit.ok();
                }
                let id = link.begin(&call);
                let mut value = HeaderValue::from(id);
                // Every value is new: it would only push others out of HPACK's table.
                value.set_sensitive(true);
                headers.insert(CALL_HEADER, value);
                Some(id)
            }
        };
        let link = Arc::clone(link);
        Ok(Self {
            call,
            link,
            id,
            is_over: false,
            _permit: permitted,
        })
    }

    /// Why the connection carries none, if so it is.
    ///
    /// # Errors
    /// When something is attached already.
    fn check(call: &Call, link: &Link) -> Result<Option<Incapable>, Status> {
        let attached = call.has_attached();
        if call.has_loose() && link.inodes().is_none() {
            return Err(Incapable::NoTable.status());
        }
        let incapable = match link.peering() {
            Peering::Nigh(hello) if hello.accepts || !attached => None,
            Peering::Nigh(_) => Some(Incapable::NotAccepted),
            Peering::Not(why) => Some(why),
            Peering::Unknown => Some(Incapable::NotNigh),
        };
        match incapable {
            Some(why) if attached => Err(why.status()),
            incapable => Ok(incapable),
        }
    }

    /// As [`begin`](Self::begin), on the nigh wire; [`bind`](Self::bind) it to its stream before its HEADERS.
    pub(crate) fn ahead(link: &Arc<Link>, asked: &mut Option<Descriptors>) -> Result<Self, Status> {
        let call = Arc::clone(&asked.get_or_insert_default().call);
        Self::check(&call, link)?;
        let link = Arc::clone(link);
        Ok(Self {
            call,
            link,
            id: None,
            is_over: false,
            _permit: None,
        })
    }

    /// Queues what was attached, for the call on this stream; wakes nobody.
    pub(crate) fn bind(&mut self, stream: u32) {
        let id = u64::from(stream);
        self.id = Some(id);
        self.link.begin_as(id, &self.call);
    }

    /// Follows the answer: with its end the call ends, well, or with what came of it closed.
    pub(crate) fn follow<E>(this: &mut Option<Self>, frame: Option<&Result<Frame<Bytes>, E>>) {
        let Some(call) = this else {
            return;
        };
        match frame {
            None => call.finish(),
            Some(Ok(frame)) => match frame.trailers_ref() {
                None => {}
                Some(trailers) => match trailers.get("grpc-status").map(HeaderValue::as_bytes) {
                    None | Some(b"0") => call.finish(),
                    Some(_) => *this = None,
                },
            },
            Some(Err(_)) => *this = None,
        }
    }

    pub(crate) fn handle(&self) -> Descriptors {
        Descriptors {
            call: Arc::clone(&self.call),
        }
    }

    /// Completes when descriptors of this call were lost.
    pub(crate) async fn lost(&self) -> Status {
        self.call.lost().await.status()
    }

    pub(crate) fn loss(&self) -> Option<Status> {
        self.call.loss().map(Loss::status)
    }

    /// As [`loss`](Self::loss), and wakes the task when there is one later.
    pub(crate) fn poll_loss(&self, cx: &Context<'_>) -> Option<Status> {
        self.call.poll_loss(cx).map(Loss::status)
    }

    /// The connection broke before the call was sent. Whether another may carry it, with all its descriptors.
    pub(crate) fn retreat(mut self) -> bool {
        self.is_over = true;
        if let Some(id) = self.id {
            self.link.end(id);
        }
        self.call.retreat()
    }

    /// The answer is complete: what came can be taken for as long as anybody holds the response.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.leave();
        }
    }

    fn leave(&self) {
        self.call.end_sending();
        if let Some(id) = self.id {
            self.link.end(id);
        }
    }
}

impl Drop for ClientCall {
    fn drop(&mut self) {
        if !self.is_over {
            self.leave();
            self.call.end_receiving();
        }
    }
}
