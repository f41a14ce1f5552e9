//! The servers: one process per variant, which dies with the one that started it.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::pin::Pin;

use nigh_testkit::service::proto::test_server::{Test, TestServer};
use nigh_testkit::service::proto::{
    DownloadRequest, FailRequest, Payload, SleepRequest, UploadReply,
};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::place::Place;
use crate::{Failure, Variant};
use crate::{lean, sealed, tarpc};

/// Bytes of the largest message taken.
pub(crate) const MESSAGE_MAX: usize = 65 * 1024 * 1024;
/// Bytes of a plain loop's length prefix.
const PREFIX: usize = 4;

/// The handlers do nothing: what is left is the wire.
#[derive(Debug, Clone)]
struct Plain;

type Payloads = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

macro_rules! plain {
    ($trait:path) => {
        #[tonic::async_trait]
        impl $trait for Plain {
            type DownloadStream = Payloads;
            type ChatStream = Payloads;

            async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
                Ok(Response::new(request.into_inner()))
            }

            async fn hold(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
                drop(request);
                Ok(Response::new(Payload::default()))
            }

            async fn download(
                &self,
                request: Request<DownloadRequest>,
            ) -> Result<Response<Payloads>, Status> {
                let DownloadRequest { count, bytes } = request.into_inner();
                let length = usize::try_from(bytes).unwrap_or_default();
                let one = Payload {
                    data: vec![7; length],
                };
                let all = (0..count).map(move |_| Ok(one.clone()));
                Ok(Response::new(Box::pin(tokio_stream::iter(all))))
            }

            async fn upload(
                &self,
                _: Request<Streaming<Payload>>,
            ) -> Result<Response<UploadReply>, Status> {
                Err(Status::unimplemented("not measured"))
            }

            async fn chat(
                &self,
                _: Request<Streaming<Payload>>,
            ) -> Result<Response<Payloads>, Status> {
                Err(Status::unimplemented("not measured"))
            }

            async fn fail(&self, _: Request<FailRequest>) -> Result<Response<Payload>, Status> {
                Err(Status::unimplemented("not measured"))
            }

            async fn sleep(&self, _: Request<SleepRequest>) -> Result<Response<Payload>, Status> {
                Err(Status::unimplemented("not measured"))
            }
        }
    };
}

plain!(Test);
plain!(lean::test_server::Test);

/// Serves `variant` on `socket` until the parent dies.
pub(crate) fn serve(variant: &str, socket: &str, place: &str) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Place::named(place)?.take(true)?;
    let socket = Path::new(socket);
    if variant == "raw" {
        return raw(socket);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = crate::VARIANTS.into_iter().find(|one| one.key() == variant);
    let variant = found.ok_or_else(|| format!("no variant {variant:?}"))?;
    runtime.block_on(serve_here(variant, socket))
}

/// Serves in this runtime.
pub(crate) async fn serve_here(variant: Variant, socket: &Path) -> Result<(), Failure> {
    match variant {
        Variant::Raw => Err("it blocks".into()),
        Variant::Tokio => echo(socket).await,
        Variant::Tonic => tonic_server(socket).await,
        Variant::Tarpc => tarpc::serve(socket).await,
        Variant::Nigh | Variant::NighHttp2 | Variant::Shared | Variant::SharedSpin => {
            nigh_server(
                variant,
                socket,
                TestServer::new(Plain).max_decoding_message_size(MESSAGE_MAX),
            )
            .await
        }
        Variant::NighCodec => {
            let service = lean::test_server::TestServer::new(Plain);
            nigh_server(
                variant,
                socket,
                service.max_decoding_message_size(MESSAGE_MAX),
            )
            .await
        }
    }
}

fn raw(socket: &Path) -> Result<(), Failure> {
    let listener = std::os::unix::net::UnixListener::bind(socket)?;
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 17 * 1024 * 1024];
        loop {
            let Ok((sent, answer)) = read_one(&mut stream, &mut buffer) else {
                break;
            };
            let all = buffer
                .get(..PREFIX + answer)
                .ok_or("a longer answer than request")?;
            debug_assert!(answer <= sent);
            stream.write_all(all)?;
        }
    }
}

/// Reads one message; its length, and that of the answer: the same, or nothing for a large one.
fn read_one(
    stream: &mut std::os::unix::net::UnixStream,
    buffer: &mut [u8],
) -> Result<(usize, usize), Failure> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).ok_or("a longer message")?)?;
        if read == 0 {
            return Err("the caller has left".into());
        }
        filled += read;
        if let Some(length) = whole(buffer.get(..filled).unwrap_or_default()) {
            return Ok((length, answer_length(length)));
        }
    }
}

fn whole(bytes: &[u8]) -> Option<usize> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
    (rest.len() >= length).then_some(length)
}

pub(crate) fn answer_length(length: usize) -> usize {
    if length > 1024 { 0 } else { length }
}

async fn echo(socket: &Path) -> Result<(), Failure> {
    let listener = tokio::net::UnixListener::bind(socket)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut buffer = vec![0; 17 * 1024 * 1024];
            let mut filled = 0;
            while let Some(room) = buffer.get_mut(filled..) {
                let Ok(read @ 1..) = stream.read(room).await else {
                    return;
                };
                filled += read;
                let Some(length) = whole(buffer.get(..filled).unwrap_or_default()) else {
                    continue;
                };
                filled = 0;
                let answer = buffer
                    .get(..PREFIX + answer_length(length))
                    .unwrap_or_default();
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn tonic_server(socket: &Path) -> Result<(), Failure> {
    let listener = tokio::net::UnixListener::bind(socket)?;
    let service = TestServer::new(Plain).max_decoding_message_size(MESSAGE_MAX);
    tonic::transport::Server::builder()
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .max_frame_size(1024 * 1024)
        .add_service(service)
        .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener))
        .await?;
    Ok(())
}

/// Default limits: it serves both wires as users get them.
async fn nigh_server<S>(variant: Variant, socket: &Path, service: S) -> Result<(), Failure>
where
    S: tower_service::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let listener = nigh::Listener::options().bind(format!("unix:{}", socket.display()).as_str())?;
    let server = nigh::Server::new().shared_memory(variant.shared_memory());
    // Callers that ask for descriptors get them; the others' connections are as without.
    let server = server
        .service(service)
        .receive_descriptors(S::NAME, nigh::FdLimits::default())
        .service(sealed::service());
    server.serve(listener).await?;
    Ok(())
}
