//! A service of grpcfd's kind: messages name files by inode URL, and the files come and go with any bytes.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nigh::{
    Channel, ClientTls, Descriptors, DescriptorsExt as _, FdLimits, InodeUrl, Policy, Server,
    ServerTls,
};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::test_server::{Test, TestServer};
use nigh_testkit::service::proto::{
    DownloadRequest, FailRequest, Payload, SleepRequest, UploadReply,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::service::NAME;
use crate::common::{Served, bind, payload};
use crate::tls::Authority;

/// Whether TLS is between the two ends on the Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    Plain,
    Tls,
}

/// How long to wait for what is on its way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Does what each message says: `take URL` gives a file back that says what was in the named one, `give PATH` sends the
/// file by its name, `hurry URL` waits for a moment only, anything else comes back.
#[derive(Debug, Clone)]
struct Table(Arc<TempSocket>);

impl Table {
    async fn answer(&self, fds: &Descriptors, message: &Payload) -> Result<Payload, Status> {
        let text = String::from_utf8_lossy(&message.data).into_owned();
        let Some((verb, object)) = text.split_once(' ') else {
            return Ok(payload(&text));
        };
        let url = match verb {
            "take" => {
                // Twice: a claim is a duplicate.
                let url = url(object);
                assert_eq!(InodeUrl::of(fds.claim(url, PATIENCE).await?).unwrap(), url);
                let content = content(fds.claim(url, PATIENCE).await?);
                fds.attach_inode(file(&self.0, &format!("got {content}")))?
            }
            "give" => fds.attach_path(object)?,
            "hurry" => {
                let claimed = fds.claim(url(object), Duration::from_millis(20)).await;
                return Ok(payload(&content(claimed?)));
            }
            _ => return Err(Status::invalid_argument(text)),
        };
        Ok(payload(&url.to_string()))
    }
}

pub(crate) fn url(text: &str) -> InodeUrl {
    text.parse().unwrap()
}

/// A new file with that content, open for reading.
pub(crate) fn file(place: &TempSocket, content: &str) -> std::fs::File {
    let path = place.join(content.replace(' ', "-"));
    std::fs::write(&path, content).unwrap();
    std::fs::File::open(path).unwrap()
}

/// What is in the file, opened again: whoever sends by name sends no rights.
pub(crate) fn content(fd: OwnedFd) -> String {
    let mut content = String::new();
    let mut file = nigh::reopen(fd, OpenOptions::new().read(true)).unwrap();
    file.read_to_string(&mut content).unwrap();
    content
}

type Payloads = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

#[tonic::async_trait]
impl Test for Table {
    type DownloadStream = Payloads;
    type ChatStream = Payloads;

    async fn echo(&self, mut request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let fds = request.descriptors();
        let reply = self.answer(&fds, request.get_ref()).await?;
        Ok(Response::new(reply))
    }

    /// A file with each message.
    async fn download(
        &self,
        mut request: Request<DownloadRequest>,
    ) -> Result<Response<Payloads>, Status> {
        let (fds, place) = (request.descriptors(), Arc::clone(&self.0));
        let messages = (0..request.get_ref().count).map(move |number| {
            let url = fds.attach_inode(file(&place, &format!("download {number}")))?;
            Ok(payload(&url.to_string()))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    /// Counts the files that it could claim, and the bytes in them.
    async fn upload(
        &self,
        mut request: Request<Streaming<Payload>>,
    ) -> Result<Response<UploadReply>, Status> {
        let fds = request.descriptors();
        let mut messages = request.into_inner();
        let mut reply = UploadReply::default();
        while let Some(message) = messages.message().await? {
            let url = url(&String::from_utf8_lossy(&message.data));
            reply.count += 1;
            reply.bytes += content(fds.claim(url, PATIENCE).await?).len() as u64;
        }
        Ok(Response::new(reply))
    }

    async fn chat(
        &self,
        mut request: Request<Streaming<Payload>>,
    ) -> Result<Response<Payloads>, Status> {
        let (fds, table) = (request.descriptors(), self.clone());
        let answers = request.into_inner().then(move |message| {
            let (fds, table) = (fds.clone(), table.clone());
            async move { table.answer(&fds, &message?).await }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fail(&self, _: Request<FailRequest>) -> Result<Response<Payload>, Status> {
        Err(Status::aborted("as asked"))
    }

    async fn sleep(&self, _: Request<SleepRequest>) -> Result<Response<Payload>, Status> {
        std::future::pending().await
    }

    async fn hold(&self, _: Request<Payload>) -> Result<Response<Payload>, Status> {
        std::future::pending().await
    }
}

/// Such a server and how to reach it.
pub(crate) struct TableServer {
    pub(crate) served: Served,
    authority: Option<Authority>,
}

pub(crate) fn serve(inside: Inside, limits: FdLimits) -> TableServer {
    let socket = TempSocket::private();
    let listener = bind(&socket, 0o600);
    let table = Table(Arc::new(TempSocket::private()));
    let server = Server::new()
        .service(TestServer::new(table))
        .receive_descriptors(NAME, limits);
    let (server, authority) = match inside {
        Inside::Plain => (server.listen(listener), None),
        Inside::Tls => {
            let authority = Authority::new();
            let (certificate, key) = authority.sign("localhost");
            let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes()).unwrap();
            let server = server.listen_tls(listener, Policy::same_user(), tls);
            (server, Some(authority))
        }
    };
    TableServer {
        served: Served::by(socket, server),
        authority,
    }
}

impl TableServer {
    pub(crate) async fn client(&self, limits: FdLimits) -> TestClient<Channel> {
        self.client_at(&self.served.address().to_string(), limits)
            .await
    }

    pub(crate) async fn client_at(&self, address: &str, limits: FdLimits) -> TestClient<Channel> {
        let mut options = Channel::options().descriptors(limits);
        if let Some(authority) = &self.authority {
            let pem = authority.pem();
            options = options.tls_on_unix(ClientTls::authority(pem.as_bytes()).unwrap());
        }
        TestClient::new(options.connect(address).await.unwrap())
    }
}
