//! A privileged helper that opens files and binds ports for callers a policy allows, and writes down what it did.
//!
//! `broker serve SOCKET ROOT` runs until it is killed; `broker` shows it, with a caller, on a directory of its own.
//! Copy it for: least privilege (the helper gives the open file, not the right to open), an audit line for each
//! request, errors that name what was refused. A real one takes its own `.proto`; this one uses the test service's.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use nigh::{Channel, DescriptorsExt as _, FdLimits, Listener, Policy, RequestExt as _, Server};
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

/// What the helper may give away: files beneath one directory, for reading, and ports on the loopback address.
#[derive(Debug, Clone)]
struct Broker {
    root: Arc<File>,
}

impl Broker {
    fn give(&self, wish: &str) -> Result<OwnedFd, Status> {
        match wish.split_once(' ') {
            // Neither `..` nor a link leads out of the root, also while somebody changes it.
            Some(("open", name)) => {
                let opened = nigh_socket::open_beneath(&*self.root, name, false);
                opened.map_err(|error| Status::permission_denied(format!("open: {error}")))
            }
            Some(("bind", port)) => {
                let port = port.parse::<u16>();
                let port = port.map_err(|_| Status::invalid_argument("bind: not a port"))?;
                Ok(TcpListener::bind(("127.0.0.1", port))?.into())
            }
            _ => Err(Status::invalid_argument(
                "expected: open NAME, or bind PORT",
            )),
        }
    }
}

#[tonic::async_trait]
impl Test for Broker {
    type DownloadStream = Payloads;
    type ChatStream = Payloads;

    async fn echo(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let wish = String::from_utf8_lossy(&request.get_ref().data).into_owned();
        let given = self.give(&wish);
        let verdict = match &given {
            Ok(_) => "given".to_owned(),
            Err(status) => format!("refused: {}", status.message()),
        };
        println!("audit: {} asked to {wish:?}: {verdict}", request.peer());
        let mut reply = Response::new(Payload::default());
        let index = reply.attach(given?)?;
        reply.get_mut().data = u32::from(index).to_le_bytes().to_vec();
        Ok(reply)
    }

    async fn download(&self, _: Request<DownloadRequest>) -> Result<Response<Payloads>, Status> {
        Err(Status::unimplemented("not here"))
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

async fn serve(socket: &str, root: &str) -> Result<(), Fault> {
    let root = Arc::new(File::open(root)?);
    let listener = Listener::options().bind(format!("unix:{socket}").as_str())?;
    let server = Server::new()
        // Who may ask at all: the helper's own user here, a group in earnest.
        .policy(Policy::same_user())
        .service(TestServer::new(Broker { root }));
    // It takes no descriptors, and the kernel is told so; giving needs no leave.
    server.serve(listener).await?;
    Ok(())
}

/// Asks for one thing.
async fn ask(client: &mut TestClient<Channel>, wish: &str) -> Result<OwnedFd, Status> {
    let data = wish.as_bytes().to_vec();
    let reply = client.echo(Payload { data }).await?;
    let index = reply.get_ref().data.first_chunk().copied();
    let index = index.ok_or_else(|| Status::internal("the answer names no descriptor"))?;
    Ok(reply.take_fd(u32::from_le_bytes(index))?)
}

async fn caller(socket: &str) -> Result<(), Fault> {
    let options = Channel::options().descriptors(FdLimits::default());
    let channel = options.connect(format!("unix:{socket}").as_str()).await?;
    let mut client = TestClient::new(channel);
    let file = ask(&mut client, "open notes.txt").await?;
    println!(
        "the file says: {}",
        std::io::read_to_string(File::from(file))?
    );
    let port = TcpListener::from(ask(&mut client, "bind 0").await?);
    println!("listening on {}", port.local_addr()?);
    for wish in ["open ../etc/shadow", "open way-out", "dance"] {
        match ask(&mut client, wish).await {
            Ok(_) => return Err(format!("{wish}: it should have been refused").into()),
            Err(status) => println!("{wish}: {}", status.message()),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, socket, root] = arguments.as_slice()
        && role == "serve"
    {
        return serve(socket, root).await;
    }
    let here = TempSocket::private();
    let socket = here.path().display().to_string();
    std::fs::write(here.join("notes.txt"), "what the caller could not open")?;
    std::os::unix::fs::symlink("/etc/passwd", here.join("way-out"))?;
    let serving = tokio::spawn({
        let (socket, root) = (socket.clone(), here.directory().display().to_string());
        async move { serve(&socket, &root).await }
    });
    let called = caller(&socket).await;
    serving.abort();
    called
}
