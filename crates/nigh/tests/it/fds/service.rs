//! A service that takes and gives descriptors, and the files that say whose they are: pipes with their name in them.

use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use nigh::{Channel, Descriptors, DescriptorsExt as _, FdIndex, FdLimits, Server, Wire};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::test_server::{Test, TestServer};
use nigh_testkit::service::proto::{
    DownloadRequest, FailRequest, Payload, SleepRequest, UploadReply,
};
use tokio::sync::Semaphore;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::common::{Served, bind};
use nigh_testkit::TempSocket;

pub(crate) const NAME: &str = "nigh.test.v1.Test";

/// Gives every descriptor back that it is sent, in each kind of call.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    /// What `hold` waits for.
    pub(crate) gate: Arc<Semaphore>,
    /// Handlers of `hold` that have begun.
    pub(crate) holding: Arc<Semaphore>,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            holding: Arc::new(Semaphore::new(0)),
        }
    }
}

/// A file whose content is `name`.
pub(crate) fn named(name: &str) -> OwnedFd {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(name.as_bytes()).unwrap();
    reader.into()
}

/// The content of such a file.
pub(crate) fn name_of(fd: OwnedFd) -> String {
    assert!(is_cloexec(&fd), "a received descriptor is close-on-exec");
    let mut name = String::new();
    PipeReader::from(fd).read_to_string(&mut name).unwrap();
    name
}

fn is_cloexec(fd: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd as _;
    const O_CLOEXEC: u32 = 0o2_000_000;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    u32::from_str_radix(flags.unwrap().trim(), 8).unwrap() & O_CLOEXEC != 0
}

/// A message that mentions descriptors, and then is as long as asked.
pub(crate) fn message(indices: &[FdIndex], length: usize) -> Payload {
    let count = u32::try_from(indices.len()).unwrap();
    let mut data = count.to_le_bytes().to_vec();
    for index in indices {
        data.extend(u32::from(*index).to_le_bytes());
    }
    data.resize(data.len().max(length), 7);
    Payload { data }
}

/// The descriptors that a message mentions.
pub(crate) fn mentioned(message: &Payload) -> Vec<FdIndex> {
    let words = message.data.chunks_exact(4);
    let mut words = words.map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let count = words.next().unwrap_or(0) as usize;
    words.take(count).map(FdIndex::from).collect()
}

/// Takes what a message mentions, and attaches it for the way back.
fn mirrored(fds: &Descriptors, message: &Payload) -> Result<Payload, Status> {
    let mut back = Vec::new();
    for index in mentioned(message) {
        back.push(fds.attach(fds.take(index)?)?);
    }
    Ok(self::message(&back, message.data.len()))
}

type Payloads = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

#[tonic::async_trait]
impl Test for Mirror {
    type DownloadStream = Payloads;
    type ChatStream = Payloads;

    /// Answers with a response of its own, which has its own numbering.
    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let mut reply = Response::new(Payload::default());
        let mut back = Vec::new();
        for index in mentioned(request.get_ref()) {
            back.push(reply.attach(request.take_fd(index)?)?);
        }
        *reply.get_mut() = message(&back, request.get_ref().data.len());
        Ok(reply)
    }

    /// One file with each message.
    async fn download(
        &self,
        mut request: Request<DownloadRequest>,
    ) -> Result<Response<Payloads>, Status> {
        let fds = request.descriptors();
        let DownloadRequest { count, bytes } = request.into_inner();
        let messages = (0..count).map(move |number| {
            let index = fds.attach(named(&format!("download {number}")))?;
            Ok(message(&[index], bytes as usize))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    /// Counts the descriptors that it could take, and the bytes in them.
    async fn upload(
        &self,
        mut request: Request<Streaming<Payload>>,
    ) -> Result<Response<UploadReply>, Status> {
        let fds = request.descriptors();
        let mut messages = request.into_inner();
        let mut reply = UploadReply::default();
        while let Some(message) = messages.message().await? {
            for index in mentioned(&message) {
                reply.count += 1;
                reply.bytes += name_of(fds.take(index)?).len() as u64;
            }
        }
        Ok(Response::new(reply))
    }

    async fn chat(
        &self,
        mut request: Request<Streaming<Payload>>,
    ) -> Result<Response<Payloads>, Status> {
        let fds = request.descriptors();
        let answers = request
            .into_inner()
            .map(move |message| mirrored(&fds, &message?));
        Ok(Response::new(Box::pin(answers)))
    }

    /// Takes nothing and fails.
    async fn fail(&self, _: Request<FailRequest>) -> Result<Response<Payload>, Status> {
        Err(Status::aborted("as asked"))
    }

    async fn sleep(&self, _: Request<SleepRequest>) -> Result<Response<Payload>, Status> {
        std::future::pending().await
    }

    /// Takes nothing and waits; then it answers as `echo` does.
    async fn hold(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        self.holding.add_permits(1);
        // Each opening lets one through.
        if let Ok(opened) = self.gate.acquire().await {
            opened.forget();
        }
        self.echo(request).await
    }
}

/// A mirror that takes descriptors within `limits`, as a server changed by `change`.
pub(crate) fn serve(limits: FdLimits, change: impl FnOnce(Server) -> Server) -> (Served, Mirror) {
    let mirror = Mirror::default();
    let socket = TempSocket::shared();
    let listener = bind(&socket, 0o666);
    let service = mirror.clone();
    let served = Served::of(socket, listener, move |server| {
        let server = server.service(TestServer::new(service));
        change(server.receive_descriptors(NAME, limits))
    });
    (served, mirror)
}

/// Limits for a sender that may run ahead.
pub(crate) fn roomy() -> FdLimits {
    let mut limits = FdLimits::default();
    limits.per_call_max = 300;
    limits.per_connection_max = 4000;
    limits
}

/// The server's limits to go with them: all tests call as the same user.
pub(crate) fn generous(server: Server) -> Server {
    let mut limits = nigh::Limits::default();
    limits.connections.descriptors_per_uid_max = 4000;
    server.limits(limits)
}

pub(crate) async fn connect(served: &Served, wire: Wire, limits: FdLimits) -> TestClient<Channel> {
    let options = Channel::options().wire(wire).descriptors(limits);
    TestClient::new(options.connect(served.address()).await.unwrap())
}

/// The wire that a test's child is to speak, as a word in its environment.
pub(crate) fn word(wire: Wire) -> &'static str {
    match wire {
        Wire::Nigh => "nigh",
        _ => "http2",
    }
}

pub(crate) fn wire_of_child() -> Wire {
    match nigh_testkit::child_variable("NIGH_TEST_WIRE").as_str() {
        "nigh" => Wire::Nigh,
        _ => Wire::Http2,
    }
}

/// Each of these functions as a test over each wire that carries descriptors.
macro_rules! on_both_wires {
    ($($case:ident),+ $(,)?) => {
        mod over_nigh {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(nigh::Wire::Nigh).await;
                }
            )+
        }
        mod over_http2 {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(nigh::Wire::Http2).await;
                }
            )+
        }
    };
}
pub(crate) use on_both_wires;
