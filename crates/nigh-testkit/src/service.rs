//! `nigh.test.v1.Test`, ready to serve: it counts its handler runs, so that a test can show that none happened.
//!
//! [`TestService`] is a handle: clones share the counts, so the test keeps one and gives the other to the server.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::KeyAndValueRef;
use tonic::{Code, Request, Response, Status, Streaming};

use proto::test_server::{Test, TestServer};
use proto::{DownloadRequest, FailRequest, Payload, SleepRequest, UploadReply};

/// Messages, client and server as tonic-prost-build generates them.
#[expect(
    clippy::allow_attributes,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("nigh.test.v1");
}

/// The service's descriptors, serialized, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// How often handlers ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// Handlers that began.
    pub started: u64,
    /// Handlers whose future or response stream is gone: finished, failed or cancelled.
    pub ended: u64,
}

/// The handlers and what is known of their runs.
#[derive(Debug, Clone)]
pub struct TestService {
    runs: watch::Sender<Runs>,
    released: watch::Sender<bool>,
}

/// Counts one handler run: begun now, ended when dropped.
#[derive(Debug)]
struct Run(watch::Sender<Runs>);

type Payloads = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

impl Default for TestService {
    fn default() -> Self {
        Self {
            runs: watch::Sender::new(Runs::default()),
            released: watch::Sender::new(false),
        }
    }
}

impl TestService {
    /// The service for a router, sharing this handle's counts.
    #[must_use]
    pub fn server(&self) -> TestServer<Self> {
        TestServer::new(self.clone())
    }

    /// How often handlers ran so far.
    #[must_use]
    pub fn runs(&self) -> Runs {
        *self.runs.borrow()
    }

    /// Waits until this many handlers have begun.
    ///
    /// # Panics
    /// Never: this handle keeps the count alive.
    pub async fn started(&self, count: u64) {
        let mut runs = self.runs.subscribe();
        let reached = runs.wait_for(|runs| runs.started >= count).await;
        reached.expect("this handle keeps the sender alive");
    }

    /// Waits until this many handlers have ended, whichever way.
    ///
    /// # Panics
    /// Never: this handle keeps the count alive.
    pub async fn ended(&self, count: u64) {
        let mut runs = self.runs.subscribe();
        let reached = runs.wait_for(|runs| runs.ended >= count).await;
        reached.expect("this handle keeps the sender alive");
    }

    /// Lets every `Hold`, running or to come, answer.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    fn run(&self) -> Run {
        self.runs.send_modify(|runs| runs.started += 1);
        Run(self.runs.clone())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.send_modify(|runs| runs.ended += 1);
    }
}

#[tonic::async_trait]
impl Test for TestService {
    type DownloadStream = Payloads;
    type ChatStream = Payloads;

    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let _run = self.run();
        let mut response = Response::new(Payload::default());
        for entry in request.metadata().iter() {
            let reply = response.metadata_mut();
            match entry {
                KeyAndValueRef::Ascii(key, value) if key.as_str().starts_with("echo-") => {
                    reply.append(key, value.clone());
                }
                KeyAndValueRef::Binary(key, value) if key.as_str().starts_with("echo-") => {
                    reply.append_bin(key, value.clone());
                }
                _ => {}
            }
        }
        *response.get_mut() = request.into_inner();
        Ok(response)
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let run = self.run();
        let DownloadRequest { count, bytes } = request.into_inner();
        let length = usize::try_from(bytes).map_err(|_| Status::invalid_argument("bytes"))?;
        let payloads = (0..count).map(move |number| {
            let _counted = &run;
            let mut data = vec![0; length];
            if let Some(first) = data.first_mut() {
                *first = number.to_le_bytes()[0];
            }
            Ok(Payload { data })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(payloads))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<Payload>>,
    ) -> Result<Response<UploadReply>, Status> {
        let _run = self.run();
        let mut payloads = request.into_inner();
        let mut reply = UploadReply::default();
        while let Some(payload) = payloads.message().await? {
            reply.count += 1;
            reply.bytes += payload.data.len() as u64;
        }
        Ok(Response::new(reply))
    }

    async fn chat(
        &self,
        request: Request<Streaming<Payload>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let run = self.run();
        let echoes = request.into_inner().map(move |payload| {
            let _counted = &run;
            payload
        });
        Ok(Response::new(Box::pin(echoes)))
    }

    async fn fail(&self, request: Request<FailRequest>) -> Result<Response<Payload>, Status> {
        let _run = self.run();
        let FailRequest { code, message } = request.into_inner();
        Err(Status::new(Code::from_i32(code), message))
    }

    async fn sleep(&self, request: Request<SleepRequest>) -> Result<Response<Payload>, Status> {
        let _run = self.run();
        let time = Duration::from_millis(request.into_inner().milliseconds.into());
        tokio::time::sleep(time).await;
        Ok(Response::new(Payload::default()))
    }

    async fn hold(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let _run = self.run();
        let mut released = self.released.subscribe();
        let opened = released.wait_for(|released| *released).await;
        opened.map_err(|_| Status::internal("the service is gone"))?;
        Ok(Response::new(request.into_inner()))
    }
}
