//! A handler looks at what came before it uses it: kind, access, seals, sockets, and whether it is a certain file.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nigh::fdcheck::{self, Access};
use nigh::{Channel, DescriptorsExt as _, FdLimits, FileKind, Server, SocketKind};
use nigh_socket::MemoryFile;
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::broker_client::BrokerClient;
use nigh_testkit::service::proto::broker_server::{Broker, BrokerServer};
use nigh_testkit::service::proto::wish::Wish as Kind;
use nigh_testkit::service::proto::{Gift, Wish};
use tonic::{Code, Request, Response, Status};

use crate::common::{Served, bind};

/// Checks the descriptor that came, in the way that the wish says: a word, or the path it has to lead to.
struct Checker;

#[tonic::async_trait]
impl Broker for Checker {
    async fn give(&self, mut request: Request<Wish>) -> Result<Response<Gift>, Status> {
        let fds = request.descriptors();
        let Some(Kind::Open(what)) = &request.get_ref().wish else {
            return Err(Status::invalid_argument("nothing to check"));
        };
        // Looked at without being taken: what is unfit is closed with the call.
        let checked = fds.with(0, |fd| match what.as_str() {
            "regular" => fdcheck::require_kind(fd, FileKind::Regular),
            "for reading" => fdcheck::require_access(fd, Access::Read),
            "sealed" => fdcheck::require_sealed(fd),
            "listening" => fdcheck::require_listening(fd, SocketKind::Stream),
            "connected" => fdcheck::require_connected(fd, SocketKind::Stream),
            path => fdcheck::require_same_file(fd, Path::new(path)),
        });
        let checked = checked.ok_or_else(|| Status::invalid_argument("nothing came"))?;
        checked.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let _fit: OwnedFd = fds.take(0)?;
        Ok(Response::new(Gift::default()))
    }
}

async fn check(
    client: &mut BrokerClient<Channel>,
    fd: impl std::os::fd::AsFd,
    what: &str,
) -> Result<(), Status> {
    let wish = Some(Kind::Open(what.to_owned()));
    let mut request = Request::new(Wish { wish });
    request.attach(fd)?;
    client.give(request).await.map(drop)
}

#[tokio::test]
async fn a_handler_checks_what_came() {
    let socket = TempSocket::private();
    let listener = bind(&socket, 0o600);
    let served = Served::of(socket, listener, |server: Server| {
        let server = server.service(BrokerServer::new(Checker));
        server.receive_descriptors("nigh.test.v1.Broker", FdLimits::default())
    });
    let options = Channel::options().descriptors(FdLimits::default());
    let channel = options.connect(served.address()).await.unwrap();
    let client = &mut BrokerClient::new(channel);

    let place = TempSocket::private();
    let path = place.join("file");
    std::fs::write(&path, "x").unwrap();
    let path = path.to_str().unwrap().to_owned();
    let file: OwnedFd = File::open(&path).unwrap().into();
    let writable: OwnedFd = File::create(place.join("other")).unwrap().into();
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe: OwnedFd = reader.into();
    let unsealed = MemoryFile::create("unsealed").unwrap();
    let sealed = {
        let mut memory = MemoryFile::create("sealed").unwrap();
        std::io::Write::write_all(&mut memory, b"for good").unwrap();
        memory.seal().unwrap()
    };
    let listening: OwnedFd = std::os::unix::net::UnixListener::bind(place.path())
        .unwrap()
        .into();
    let (connected, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let connected: OwnedFd = connected.into();
    for (what, fit, unfit) in [
        ("regular", &file, &pipe),
        ("for reading", &file, &writable),
        ("listening", &listening, &connected),
        ("connected", &connected, &listening),
        (path.as_str(), &file, &writable),
    ] {
        check(client, fit, what).await.unwrap();
        let status = check(client, unfit, what).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        assert!(status.message().starts_with("descriptor:"), "{status}");
    }
    check(client, &sealed, "sealed").await.unwrap();
    let status = check(client, &unsealed, "sealed").await.unwrap_err();
    assert!(status.message().contains("not sealed"), "{status}");
    served.stop().await;
}
