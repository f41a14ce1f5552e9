//! Files by inode URL, as Go's grpcfd sends them: a server, a client, and both in one process when started without arguments.
//!
//! `grpcfd serve SOCKET [CERT KEY]` · `grpcfd call SOCKET [CA]`, one line per check · `grpcfd`
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nigh::{
    Channel, ClientTls, Descriptors, DescriptorsExt as _, FdLimits, InodeUrl, Listener, Policy,
    Server, ServerTls,
};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::test_server::{Test, TestServer};
use nigh_testkit::service::proto::{
    DownloadRequest, FailRequest, Payload, SleepRequest, UploadReply,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

type Fault = Box<dyn Error + Send + Sync>;
type Payloads = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

/// How long to wait for a file whose URL is here already.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where files are made that say their name.
#[derive(Debug, Clone)]
struct Files(Arc<TempSocket>);

impl Files {
    fn new() -> Self {
        Self(Arc::new(TempSocket::private()))
    }

    fn path(&self, name: &str) -> Result<PathBuf, Status> {
        let path = self.0.join(name.replace(' ', "-"));
        std::fs::write(&path, name)?;
        Ok(path)
    }

    fn open(&self, name: &str) -> Result<File, Status> {
        Ok(File::open(self.path(name)?)?)
    }
}

/// What a file says. One sent by name only (`O_PATH`) has to be opened again, and any other may be.
fn content(fd: &OwnedFd) -> Result<String, Status> {
    let mut content = String::new();
    nigh::reopen(fd, OpenOptions::new().read(true))?.read_to_string(&mut content)?;
    Ok(content)
}

/// The contents of the files that a message names, one URL per line.
async fn contents(fds: &Descriptors, message: &Payload) -> Result<Vec<String>, Status> {
    let mut contents = Vec::new();
    for url in String::from_utf8_lossy(&message.data).split_whitespace() {
        let url: InodeUrl = url.parse().map_err(|_| Status::invalid_argument(url))?;
        contents.push(content(&fds.claim(url, PATIENCE).await?)?);
    }
    Ok(contents)
}

fn message(urls: &[InodeUrl]) -> Payload {
    let urls: Vec<String> = urls.iter().map(InodeUrl::to_string).collect();
    Payload {
        data: urls.join("\n").into_bytes(),
    }
}

#[tonic::async_trait]
impl Test for Files {
    type DownloadStream = Payloads;
    type ChatStream = Payloads;

    /// Gives a file back for each that it is sent.
    async fn echo(&self, mut request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let fds = request.descriptors();
        let mut reply = Response::new(Payload::default());
        let mut urls = Vec::new();
        for name in contents(&fds, request.get_ref()).await? {
            let file = self.open(&format!("echo {name}"))?;
            urls.push(reply.descriptors().attach_inode(file)?);
        }
        *reply.get_mut() = message(&urls);
        Ok(reply)
    }

    async fn download(
        &self,
        mut request: Request<DownloadRequest>,
    ) -> Result<Response<Payloads>, Status> {
        let (files, fds) = (self.clone(), request.descriptors());
        let messages = (0..request.get_ref().count).map(move |number| {
            let file = files.open(&format!("download {number}"))?;
            Ok(message(&[fds.attach_inode(file)?]))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    async fn upload(
        &self,
        _: Request<Streaming<Payload>>,
    ) -> Result<Response<UploadReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn chat(&self, _: Request<Streaming<Payload>>) -> Result<Response<Payloads>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn fail(&self, _: Request<FailRequest>) -> Result<Response<Payload>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn sleep(&self, _: Request<SleepRequest>) -> Result<Response<Payload>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn hold(&self, _: Request<Payload>) -> Result<Response<Payload>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn serve(socket: &str, tls: &[String]) -> Result<(), Fault> {
    let listener = Listener::options().bind(format!("unix:{socket}").as_str())?;
    let server = Server::new()
        .service(TestServer::new(Files::new()))
        .receive_descriptors("nigh.test.v1.Test", FdLimits::with_inode_table());
    let server = match tls {
        [certificate, key] => {
            let tls = ServerTls::new(&std::fs::read(certificate)?, &std::fs::read(key)?)?;
            server.listen_tls(listener, Policy::same_user(), tls)
        }
        _ => server.listen(listener),
    };
    server.run(std::future::pending()).await?;
    Ok(())
}

async fn unary(client: &mut TestClient<Channel>, files: &Files, count: u32) -> Result<(), Fault> {
    let mut request = Request::new(Payload::default());
    let mut urls = Vec::new();
    for number in 0..count {
        let name = format!("rust {count} {number}");
        // Every other one by name: then it arrives without rights of its own.
        urls.push(if number % 2 == 0 {
            request.descriptors().attach_inode(files.open(&name)?)?
        } else {
            request.descriptors().attach_path(files.path(&name)?)?
        });
    }
    *request.get_mut() = message(&urls);
    let mut reply = client.echo(request).await?;
    let fds = reply.descriptors();
    // Twice: a file stays in the table, and each claim is a duplicate.
    for _ in 0..2 {
        let back = contents(&fds, reply.get_ref()).await?;
        let expected: Vec<_> = (0..count)
            .map(|number| format!("echo rust {count} {number}"))
            .collect();
        if back != expected {
            return Err(format!("{back:?} came back").into());
        }
    }
    Ok(())
}

async fn stream(client: &mut TestClient<Channel>, count: u32) -> Result<(), Fault> {
    let mut reply = client.download(DownloadRequest { count, bytes: 0 }).await?;
    let fds = reply.descriptors();
    let mut messages = reply.into_inner();
    for number in 0..count {
        let message = messages.message().await?.ok_or("the stream ended early")?;
        let brought = contents(&fds, &message).await?;
        if brought != [format!("download {number}")] {
            return Err(format!("message {number} brought {brought:?}").into());
        }
    }
    Ok(())
}

async fn call(socket: &str, tls: &[String]) -> Result<(), Fault> {
    let options = Channel::options().descriptors(FdLimits::with_inode_table());
    let (options, kind) = match tls {
        [authority] => {
            let tls = ClientTls::authority(&std::fs::read(authority)?)?;
            (options.tls_on_unix(tls), "tls")
        }
        _ => (options, "plain"),
    };
    let channel = options.connect(format!("unix:{socket}").as_str()).await?;
    let mut client = TestClient::new(channel);
    let files = Files::new();
    let show = |name: String, result: Result<(), Fault>| match result {
        Ok(()) => println!("ok - rust client, {kind}: {name}"),
        Err(error) => println!("not ok - rust client, {kind}: {name}: {error}"),
    };
    for count in [1, 60] {
        let result = unary(&mut client, &files, count).await;
        show(format!("unary with {count} descriptors both ways"), result);
    }
    for count in [1, 60] {
        let result = stream(&mut client, count).await;
        show(format!("server stream of {count} descriptors"), result);
    }
    show(
        "unary after all of them".into(),
        unary(&mut client, &files, 2).await,
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, socket, tls @ ..] if role == "serve" => serve(socket, tls).await,
        [role, socket, tls @ ..] if role == "call" => call(socket, tls).await,
        _ => {
            let here = TempSocket::private();
            let socket = here.path().display().to_string();
            let serving = tokio::spawn({
                let socket = socket.clone();
                async move { serve(&socket, &[]).await }
            });
            call(&socket, &[]).await?;
            serving.abort();
            Ok(())
        }
    }
}
