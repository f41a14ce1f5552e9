//! The handlers of `nigh.diag.v1.Diag`.
//!
//! A caller chooses sizes and times here, so each is checked against a limit before anything is allocated or awaited.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use nigh::{Descriptors, DescriptorsExt as _};
use nigh_socket::Peer;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

use super::caller;
use super::counters::{Counters, Running};
use super::descriptors::{self, OpenRoot};
use super::pb::diag_server;
use super::pb::{
    CountersReply, CountersRequest, DownloadReply, DownloadRequest, EchoReply, EchoRequest,
    FailReply, FailRequest, OpenFileReply, OpenFileRequest, SleepReply, SleepRequest, StatReply,
    StatRequest, SwapReply, SwapRequest, UploadReply, UploadRequest, WhoAmIReply, WhoAmIRequest,
};

/// Most bytes of data in one reply: what most clients take, and what each call can make the server hold.
const DATA_BYTES_MAX: u32 = 4 << 20;
/// Metadata with this prefix is returned.
const ECHO_PREFIX: &str = "x-nigh-echo-";

/// The diagnostic service.
#[derive(Debug, Clone)]
pub struct Diag {
    counters: Counters,
    root: Option<OpenRoot>,
}

impl Diag {
    /// A service that counts in `counters`.
    pub fn new(counters: Counters) -> Self {
        Self {
            counters,
            root: None,
        }
    }

    /// Lets callers open files beneath `root`.
    #[must_use]
    pub fn open_root(mut self, root: Option<OpenRoot>) -> Self {
        self.root = root;
        self
    }
}

type Replies<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl diag_server::Diag for Diag {
    type EchoStreamStream = Replies<EchoReply>;
    type DownloadStream = Replies<DownloadReply>;
    type SwapStream = Replies<SwapReply>;

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIReply>, Status> {
        let running = self.counters.enter("WhoAmI");
        let reply = who(request.extensions()).await;
        running.finish();
        Ok(with_echo(request.metadata(), reply?))
    }

    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        let running = self.counters.enter("Echo");
        let (metadata, _, request) = request.into_parts();
        let reply = answer(request, 0).await;
        running.finish();
        Ok(with_echo(&metadata, reply?))
    }

    async fn echo_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Replies<EchoReply>>, Status> {
        let running = self.counters.enter("EchoStream");
        let (metadata, _, requests) = request.into_parts();
        let replies = stream::unfold(Some((requests, 0, running)), |state| async {
            let (mut requests, index, running) = state?;
            let reply = match requests.message().await {
                Ok(Some(request)) => answer(request, index).await,
                Ok(None) => {
                    running.finish();
                    return None;
                }
                Err(status) => return Some((Err(status), None)),
            };
            if reply.is_ok() {
                return Some((reply, Some((requests, index + 1, running))));
            }
            running.finish();
            Some((reply, None))
        });
        Ok(with_echo(&metadata, replies.boxed()))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadReply>, Status> {
        let running = self.counters.enter("Upload");
        let (metadata, _, mut requests) = request.into_parts();
        let start = Instant::now();
        let mut reply = UploadReply::default();
        while let Some(request) = requests.message().await? {
            reply.messages += 1;
            reply.bytes += request.data.len() as u64;
        }
        reply.elapsed = Some(to_proto(start.elapsed()));
        running.finish();
        Ok(with_echo(&metadata, reply))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Replies<DownloadReply>>, Status> {
        let running = self.counters.enter("Download");
        let (metadata, _, request) = request.into_parts();
        let data = match payload("message_bytes", request.message_bytes) {
            Ok(data) => data,
            Err(status) => return Err(finished(running, status)),
        };
        let interval = match duration("interval", request.interval) {
            Ok(interval) => interval,
            Err(status) => return Err(finished(running, status)),
        };
        let replies = stream::unfold((0, running), move |(index, running)| {
            let data = data.clone();
            async move {
                if index == request.count {
                    running.finish();
                    return None;
                }
                if index > 0 {
                    pause(interval).await;
                }
                Some((Ok(DownloadReply { index, data }), (index + 1, running)))
            }
        });
        Ok(with_echo(&metadata, replies.boxed()))
    }

    async fn sleep(&self, request: Request<SleepRequest>) -> Result<Response<SleepReply>, Status> {
        let running = self.counters.enter("Sleep");
        let (metadata, _, request) = request.into_parts();
        let duration = match duration("duration", request.duration) {
            Ok(duration) => duration,
            Err(status) => return Err(finished(running, status)),
        };
        let start = Instant::now();
        // A caller that cancels drops this future, and the server does so at the deadline.
        pause(duration).await;
        running.finish();
        let elapsed = Some(to_proto(start.elapsed()));
        Ok(with_echo(&metadata, SleepReply { elapsed }))
    }

    async fn fail(&self, request: Request<FailRequest>) -> Result<Response<FailReply>, Status> {
        let running = self.counters.enter("Fail");
        let (metadata, _, request) = request.into_parts();
        let code = match i32::try_from(request.code) {
            Ok(code @ 1..=16) => Code::from_i32(code),
            _ => {
                let status = Status::invalid_argument("code: expected 1 to 16");
                return Err(finished(running, status));
            }
        };
        let trailers = echoed(&metadata);
        let status =
            Status::with_details_and_metadata(code, request.message, request.details, trailers);
        Err(finished(running, status))
    }

    async fn stat(&self, mut request: Request<StatRequest>) -> Result<Response<StatReply>, Status> {
        let running = self.counters.enter("Stat");
        let fds = request.descriptors();
        let (metadata, _, request) = request.into_parts();
        let described = descriptors::stat(&fds, request.fds).await;
        running.finish();
        Ok(with_echo(&metadata, StatReply { fds: described? }))
    }

    async fn open_file(
        &self,
        mut request: Request<OpenFileRequest>,
    ) -> Result<Response<OpenFileReply>, Status> {
        let running = self.counters.enter("OpenFile");
        let fds = request.descriptors();
        let (metadata, _, request) = request.into_parts();
        let root = self.root.as_ref();
        let opened = descriptors::open(root, &fds, request.path, request.write).await;
        running.finish();
        let (index, info) = opened?;
        let reply = OpenFileReply {
            fd: index.into(),
            info: Some(info),
        };
        Ok(with_echo(&metadata, reply))
    }

    async fn swap(
        &self,
        mut request: Request<Streaming<SwapRequest>>,
    ) -> Result<Response<Replies<SwapReply>>, Status> {
        let running = self.counters.enter("Swap");
        let fds = request.descriptors();
        let (metadata, _, requests) = request.into_parts();
        let replies = stream::unfold(Some((requests, fds, running)), |state| async {
            let (mut requests, fds, running) = state?;
            let reply = match requests.message().await {
                Ok(Some(request)) => swapped(&fds, request).await,
                Ok(None) => {
                    running.finish();
                    return None;
                }
                Err(status) => return Some((Err(status), None)),
            };
            if reply.is_ok() {
                return Some((reply, Some((requests, fds, running))));
            }
            running.finish();
            Some((reply, None))
        });
        Ok(with_echo(&metadata, replies.boxed()))
    }

    async fn counters(
        &self,
        request: Request<CountersRequest>,
    ) -> Result<Response<CountersReply>, Status> {
        self.counters.enter("Counters").finish();
        Ok(with_echo(request.metadata(), self.counters.read()))
    }
}

/// Describes the caller of a request by what the server put into its extensions.
async fn who(extensions: &Extensions) -> Result<WhoAmIReply, Status> {
    // A stock tonic server has no `Peer`; nigh's always has.
    let Some(peer) = extensions.get::<Peer>().cloned() else {
        return Ok(WhoAmIReply::default());
    };
    let described = tokio::task::spawn_blocking(move || caller::describe(&peer));
    let mut reply = described
        .await
        .map_err(|_| Status::internal("the caller could not be described"))?;
    if let Some(arrival) = extensions.get::<nigh::Arrival>() {
        reply.listener = arrival.listener.to_string();
        reply.wire = arrival.wire.to_owned();
    }
    Ok(reply)
}

/// A failure that the handler itself decided on.
fn finished(running: Running, status: Status) -> Status {
    running.finish();
    status
}

async fn swapped(fds: &Descriptors, request: SwapRequest) -> Result<SwapReply, Status> {
    let taken = descriptors::take(fds, request.fds).await?;
    Ok(SwapReply {
        fds: descriptors::give_back(fds, &taken)?,
        came: taken.into_iter().map(|(info, _)| info).collect(),
    })
}

async fn answer(request: EchoRequest, index: u64) -> Result<EchoReply, Status> {
    let data = match request.reply_bytes {
        Some(length) => payload("reply_bytes", length)?,
        None => request.data,
    };
    pause(duration("delay", request.delay)?).await;
    Ok(EchoReply {
        text: request.text,
        data,
        index,
    })
}

/// Waits, but not for the timer when there is nothing to wait for.
async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

/// So many bytes, after a check that they are not too many.
fn payload(field: &str, length: u32) -> Result<Bytes, Status> {
    if length > DATA_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "{field}: at most {DATA_BYTES_MAX}, got {length}"
        )));
    }
    Ok(vec![0; length as usize].into())
}

fn duration(field: &str, duration: Option<prost_types::Duration>) -> Result<Duration, Status> {
    Duration::try_from(duration.unwrap_or_default())
        .map_err(|_| Status::invalid_argument(format!("{field}: expected a duration from 0")))
}

fn to_proto(duration: Duration) -> prost_types::Duration {
    // Only a duration of more years than the universe has does not fit.
    duration.try_into().unwrap_or_default()
}

fn with_echo<T>(request: &MetadataMap, reply: T) -> Response<T> {
    let mut response = Response::new(reply);
    *response.metadata_mut() = echoed(request);
    response
}

/// The part of the request's metadata that is to come back.
fn echoed(request: &MetadataMap) -> MetadataMap {
    let mut echoed = MetadataMap::new();
    for entry in request.iter() {
        match entry {
            KeyAndValueRef::Ascii(name, value) if name.as_str().starts_with(ECHO_PREFIX) => {
                echoed.append(name.clone(), value.clone());
            }
            KeyAndValueRef::Binary(name, value) if name.as_str().starts_with(ECHO_PREFIX) => {
                echoed.append_bin(name.clone(), value.clone());
            }
            _ => {}
        }
    }
    echoed
}
