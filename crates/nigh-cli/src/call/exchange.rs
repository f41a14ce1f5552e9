//! One call from its first request to its status, in whichever of the four kinds the method is.
//!
//! Every kind is driven as a bidirectional stream, so requests go out as they are read and replies come in as they arrive.
//! Trap: a request that turns out to be bad must end the call without half-closing it, or the server would take the stream for
//! whole; and a call that is dropped while its requests are open must be reset by hand, because hyper goes on to wait for them.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use nigh::{AttachError, Descriptors, DescriptorsExt as _};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{CancellationHandle, Code, Request, Status, Streaming};

use super::codec::DynamicCodec;
use super::fields::IndexField;
use super::reply::ReplyError;
use super::request::{Count, Input, RequestError, Requests};
use super::{Caller, ready};
use crate::commands::received::ReceivedError;

/// Largest reply taken by default, in bytes.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// What to call, and how.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The method.
    pub method: MethodDescriptor,
    /// Where the requests come from.
    pub input: Input,
    /// Metadata of the request.
    pub metadata: MetadataMap,
    /// How long the call may take; told to the server too.
    pub deadline: Option<Duration>,
    /// Largest reply taken, in bytes.
    pub reply_bytes_max: usize,
    /// Files that the first request mentions.
    pub attach: Vec<Attach>,
}

/// An open file, and the field of the first request that gets its index.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The field.
    pub field: IndexField,
    /// The file.
    pub file: Arc<OwnedFd>,
}

/// Where replies go, one by one.
pub trait Sink {
    /// The server's first metadata.
    ///
    /// # Errors
    /// They cannot be shown; ends the call.
    fn headers(&mut self, metadata: &MetadataMap) -> Result<(), ShowError>;

    /// The call's descriptors: what came so far and what will come.
    fn descriptors(&mut self, fds: Descriptors) {
        drop(fds);
    }

    /// One reply.
    ///
    /// # Errors
    /// It cannot be shown; ends the call.
    fn message(&mut self, message: &DynamicMessage) -> Result<(), ShowError>;
}

/// Why something that came cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShowError {
    /// The output is gone or full.
    #[error("cannot write the output")]
    Write(#[from] io::Error),
    /// A reply cannot be put into words.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// A descriptor that a reply mentions cannot be saved.
    #[error(transparent)]
    Received(#[from] ReceivedError),
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome {
    /// The status; its metadata are the trailers when it is not OK.
    pub status: Status,
    /// Metadata that came with the status.
    pub trailers: MetadataMap,
    /// Number of requests sent.
    pub sent: u64,
    /// Number of replies received.
    pub received: u64,
    /// From the start of the call to the server's headers, if they came.
    pub first: Option<Duration>,
    /// From the start of the call to its status.
    pub total: Duration,
}

/// Why a call has no [`Outcome`]: the fault is on this side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A request cannot be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What came cannot be shown.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// A file cannot be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// What a call has seen so far; outlives the call if the deadline cuts it short.
#[derive(Debug, Default)]
struct Progress {
    received: u64,
    first: Option<Duration>,
}

impl Exchange {
    /// Makes the call and gives every reply to `sink`.
    ///
    /// # Errors
    /// Input or output fails. What the server says is in the [`Outcome`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call.
    pub async fn run<T: Caller>(
        &self,
        caller: T,
        sink: &mut impl Sink,
    ) -> Result<Outcome, ExchangeError> {
        let sent = Arc::new(AtomicU64::new(0));
        let (report, failed) = oneshot::channel();
        let fds = Descriptors::new();
        let attached = self.attach.iter().map(|Attach { field, file }| {
            let index = fds.attach(file)?;
            Ok((field.clone(), index.into()))
        });
        let requests = Outgoing {
            ready: None,
            queue: None,
            report: Some(report),
            sent: Arc::clone(&sent),
            mentions: attached.collect::<Result<_, AttachError>>()?,
        };
        let requests = self.fill(requests).await?;
        let fds = (!self.attach.is_empty()).then_some(fds);
        let mut progress = Progress::default();
        let start = Instant::now();
        let call = self.drive(caller, (requests, fds), sink, start, &mut progress);
        let call = within(self.deadline, call);
        let (status, trailers) = tokio::select! {
            biased;
            Ok(error) = failed => return Err(error.into()),
            ended = call => ended?,
        };
        let total = start.elapsed();
        Ok(Outcome {
            status: self.judge(status, progress.received, total),
            trailers,
            sent: sent.load(Ordering::Relaxed),
            received: progress.received,
            first: progress.first,
            total,
        })
    }

    /// Connects the input to the call; a single request is read whole before the call begins.
    async fn fill(&self, mut outgoing: Outgoing) -> Result<Outgoing, RequestError> {
        let descriptor = self.method.input();
        // An index needs a message to be in.
        let is_empty = self.input == Input::Nothing && self.attach.is_empty();
        if self.method.is_client_streaming() && (is_empty || self.input != Input::Nothing) {
            outgoing.queue = Some(Requests::start(&self.input, descriptor)?);
            return Ok(outgoing);
        }
        if self.input == Input::Nothing {
            outgoing.ready = Some(DynamicMessage::new(descriptor));
            return Ok(outgoing);
        }
        let not_one = |got| RequestError::NotOne {
            method: self.method.full_name().to_owned(),
            from: self.input.clone(),
            got,
        };
        let mut requests = Requests::start(&self.input, descriptor)?;
        let Some(only) = requests.next().await else {
            return Err(not_one(Count::None));
        };
        outgoing.ready = Some(only?);
        match requests.next().await {
            None => Ok(outgoing),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => Err(not_one(Count::Several)),
        }
    }

    /// The call proper; an error of the server's is a status, not an error of this function's.
    async fn drive<T: Caller>(
        &self,
        caller: T,
        (requests, fds): (Outgoing, Option<Descriptors>),
        sink: &mut impl Sink,
        start: Instant,
        progress: &mut Progress,
    ) -> Result<(Status, MetadataMap), ExchangeError> {
        let mut request = Request::new(requests);
        if let Some(fds) = fds {
            request.extensions_mut().insert(fds);
        }
        *request.metadata_mut() = self.metadata.clone();
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        let _reset = ResetOnDrop(Some(request.cancellation_handle()));
        let mut reply = match self.begin(caller, request).await {
            Ok(reply) => reply,
            Err(status) => return Ok(split(status)),
        };
        progress.first = Some(start.elapsed());
        sink.descriptors(reply.descriptors());
        let (metadata, mut replies, _) = reply.into_parts();
        sink.headers(&metadata)?;
        loop {
            match replies.message().await {
                Ok(Some(message)) => {
                    progress.received += 1;
                    sink.message(&message)?;
                }
                Ok(None) => break,
                Err(status) => return Ok(split(status)),
            }
        }
        Ok(match replies.trailers().await {
            Ok(trailers) => (Status::ok(""), trailers.unwrap_or_default()),
            Err(status) => split(status),
        })
    }

    async fn begin<T: Caller>(
        &self,
        caller: T,
        request: Request<Outgoing>,
    ) -> Result<tonic::Response<Streaming<DynamicMessage>>, Status> {
        let service = self.method.parent_service().full_name();
        let path = format!("/{service}/{}", self.method.name());
        let path = PathAndQuery::try_from(path)
            .map_err(|error| Status::internal(format!("method name: {error}")))?;
        let mut client = Grpc::new(caller).max_decoding_message_size(self.reply_bytes_max);
        ready(&mut client).await?;
        let codec = DynamicCodec::new(&self.method);
        client.streaming(request, path, codec).await
    }

    /// The status as the caller should read it.
    fn judge(&self, status: Status, received: u64, total: Duration) -> Status {
        match (status.code(), self.deadline) {
            // tonic calls it cancelled, on both sides, when its own timer is first.
            (Code::Cancelled, Some(deadline)) if total >= deadline => late(deadline),
            (Code::Ok, _) if !self.method.is_server_streaming() && received != 1 => {
                Status::internal(format!(
                    "the server sent {received} replies where the method has one"
                ))
            }
            _ => status,
        }
    }
}

fn late(deadline: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {deadline:?}"))
}

/// Runs the call against its deadline; the server may be too stuck to notice.
async fn within(
    deadline: Option<Duration>,
    call: impl Future<Output = Result<(Status, MetadataMap), ExchangeError>>,
) -> Result<(Status, MetadataMap), ExchangeError> {
    let Some(deadline) = deadline else {
        return call.await;
    };
    tokio::time::timeout(deadline, call)
        .await
        .unwrap_or_else(|_| Ok((late(deadline), MetadataMap::new())))
}

/// Resets the call when it is given up. Dropping the reply is not enough: the connection would go on to wait for requests.
struct ResetOnDrop(Option<CancellationHandle>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.cancel();
        }
    }
}

/// Separates a status from the metadata that came with it.
fn split(status: Status) -> (Status, MetadataMap) {
    let trailers = status.metadata().clone();
    (status, trailers)
}

/// The request side of a call.
struct Outgoing {
    ready: Option<DynamicMessage>,
    queue: Option<Requests>,
    report: Option<oneshot::Sender<RequestError>>,
    sent: Arc<AtomicU64>,
    /// What the first message mentions.
    mentions: Vec<(IndexField, u32)>,
}

impl Stream for Outgoing {
    type Item = DynamicMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<DynamicMessage>> {
        if self.report.is_none() {
            // Reported. Asked again before the reset, the queue would end, and the server would take the call as whole.
            return Poll::Pending;
        }
        let next = match (self.ready.take(), &mut self.queue) {
            (Some(message), _) => Some(Ok(message)),
            (None, None) => None,
            (None, Some(queue)) => std::task::ready!(Pin::new(queue).poll_next(cx)),
        };
        match next {
            None => Poll::Ready(None),
            Some(Ok(mut message)) => {
                for (field, index) in self.mentions.drain(..) {
                    field.put(&mut message, index);
                }
                self.sent.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Some(message))
            }
            Some(Err(error)) => {
                if let Some(report) = self.report.take() {
                    // Nobody listens only when the call is over already.
                    let _ = report.send(error);
                }
                // No end of the stream: whoever got the report resets it.
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn requests_do_not_end_after_one_that_does_not_fit() {
        let duration = "google.protobuf.Duration";
        let descriptor = DescriptorPool::global()
            .get_message_by_name(duration)
            .unwrap();
        let (report, failed) = oneshot::channel();
        let mut requests = Outgoing {
            ready: None,
            queue: Some(Requests::start(&Input::Argument("\"1s\" 1".into()), descriptor).unwrap()),
            report: Some(report),
            sent: Arc::default(),
            mentions: Vec::new(),
        };
        assert!(requests.next().await.is_some());
        tokio::select! {
            biased;
            Ok(_) = failed => {}
            _ = requests.next() => panic!("nothing follows"),
        }
        let queue = requests.queue.as_mut().unwrap();
        assert!(queue.next().await.is_none(), "the reader has ended");
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        let again = Pin::new(&mut requests).poll_next(&mut nobody);
        assert!(again.is_pending());
    }
}
