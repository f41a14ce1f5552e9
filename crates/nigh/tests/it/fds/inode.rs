//! grpcfd's way between two nigh ends, plain and inside TLS on the Unix socket: by URL, before or after, again and again.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nigh::{
    Channel, ClientTls, Descriptors, DescriptorsExt as _, FdLimits, Incapable, InodeUrl, Listener,
    Policy, Server, ServerTls, TakeError, fdcheck,
};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::test_server::TestServer;
use nigh_testkit::service::proto::{DownloadRequest, Payload};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use super::service::{Mirror, connect, message, named, roomy};
use super::table::{Inside, PATIENCE, content, file, serve, url};
use crate::common::{Served, bind, payload};
use crate::tls::Authority;

const BOTH: [Inside; 2] = [Inside::Plain, Inside::Tls];

fn text(message: &Payload) -> String {
    String::from_utf8(message.data.clone()).unwrap()
}

#[tokio::test]
async fn files_go_both_ways_by_url_in_unary_calls() {
    for inside in BOTH {
        let server = serve(inside, FdLimits::with_inode_table());
        let mut client = server.client(FdLimits::with_inode_table()).await;
        let place = TempSocket::private();
        for round in 0..3 {
            let mut request = Request::new(Payload::default());
            let fds = request.descriptors();
            let url = fds
                .attach_inode(file(&place, &format!("unary {round}")))
                .unwrap();
            *request.get_mut() = payload(&format!("take {url}"));
            let mut reply = client.echo(request).await.unwrap();
            let came = self::url(&text(reply.get_ref()));
            // Claimed repeatedly, and through a handle that outlives the response.
            let fds = reply.descriptors();
            drop(reply);
            for _ in 0..2 {
                let fd = fds.claim(came, PATIENCE).await.unwrap();
                assert_eq!(content(fd), format!("got unary {round}"), "{inside:?}");
            }
        }
        server.served.stop().await;
    }
}

#[tokio::test]
async fn files_go_both_ways_by_url_in_the_middle_of_streams() {
    for inside in BOTH {
        let server = serve(inside, FdLimits::with_inode_table());
        let mut client = server.client(FdLimits::with_inode_table()).await;
        let place = TempSocket::private();
        let fds = Descriptors::new();
        let (say, said) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(said));
        request.extensions_mut().insert(fds.clone());
        let mut answers = client.chat(request).await.unwrap().into_inner();
        for round in 0..5 {
            let name = format!("chat {round}");
            let url = fds.attach_inode(file(&place, &name)).unwrap();
            say.send(payload(&format!("take {url}"))).await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            let fd = fds.claim(self::url(&text(&answer)), PATIENCE).await;
            assert_eq!(content(fd.unwrap()), format!("got {name}"), "{inside:?}");
        }
        drop(say);
        assert!(answers.message().await.unwrap().is_none());

        let fds = Descriptors::new();
        let (sender, place) = (fds.clone(), TempSocket::private());
        let messages = (0..5).map(move |number| {
            let url = sender.attach_inode(file(&place, &format!("up {number}")));
            payload(&url.unwrap().to_string())
        });
        let mut request = Request::new(tokio_stream::iter(messages));
        request.extensions_mut().insert(fds);
        let reply = client.upload(request).await.unwrap().into_inner();
        assert_eq!((reply.count, reply.bytes), (5, 20), "{inside:?}");

        let request = DownloadRequest { count: 5, bytes: 0 };
        let mut reply = client.download(request).await.unwrap();
        let fds = reply.descriptors();
        for number in 0..5 {
            let message = reply.get_mut().message().await.unwrap().unwrap();
            let fd = fds.claim(url(&text(&message)), PATIENCE).await.unwrap();
            assert_eq!(content(fd), format!("download {number}"), "{inside:?}");
        }
        server.served.stop().await;
    }
}

#[tokio::test]
async fn a_claim_may_come_before_its_file_on_either_side() {
    for inside in BOTH {
        let server = serve(inside, FdLimits::with_inode_table());
        let mut client = server.client(FdLimits::with_inode_table()).await;
        let place = TempSocket::private();
        let fds = Descriptors::new();
        let (say, said) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(said));
        request.extensions_mut().insert(fds.clone());
        let mut answers = client.chat(request).await.unwrap().into_inner();

        // The server waits for what the client has not sent yet; the next message brings it.
        let late = file(&place, "late");
        let named = InodeUrl::of(&late).unwrap();
        say.send(payload(&format!("take {named}"))).await.unwrap();
        fds.attach_inode(late).unwrap();
        say.send(payload("bare")).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        let fd = fds.claim(url(&text(&answer)), PATIENCE).await.unwrap();
        assert_eq!(content(fd), "got late", "{inside:?}");
        assert_eq!(text(&answers.message().await.unwrap().unwrap()), "bare");

        // The client waits for what it has not asked for yet.
        let path = place.join("later");
        std::fs::write(&path, "later").unwrap();
        let named = InodeUrl::of(std::fs::File::open(&path).unwrap()).unwrap();
        let waiting = tokio::spawn({
            let fds = fds.clone();
            async move { fds.claim(named, PATIENCE).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let ask = format!("give {}", path.display());
        say.send(payload(&ask)).await.unwrap();
        answers.message().await.unwrap().unwrap();
        assert_eq!(content(waiting.await.unwrap().unwrap()), "later");
        drop(say);
        assert!(answers.message().await.unwrap().is_none());
        server.served.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_opened_is_sent_by_its_name() {
    for inside in BOTH {
        let server = serve(inside, FdLimits::with_inode_table());
        let mut client = server.client(FdLimits::with_inode_table()).await;
        let place = TempSocket::private();
        let listener = UnixListener::bind(place.path()).unwrap();
        // A socket cannot be opened; the receiver connects through the descriptor.
        let ask = format!("give {}", place.path().display());
        let mut reply = client.echo(payload(&ask)).await.unwrap();
        let named = url(&text(reply.get_ref()));
        let fd = reply.descriptors().claim(named, PATIENCE).await.unwrap();
        fdcheck::require_access(&fd, fdcheck::Access::Path).unwrap();
        fdcheck::require_same_file(&fd, place.path()).unwrap();
        let there = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let caller = UnixStream::connect(there).unwrap();
        listener.accept().unwrap();
        drop(caller);
        // The other way: the server opens what came without rights.
        std::fs::write(place.join("by-name"), "by name").unwrap();
        let mut request = Request::new(Payload::default());
        let fds = request.descriptors();
        let url = fds.attach_path(place.join("by-name")).unwrap();
        *request.get_mut() = payload(&format!("take {url}"));
        let mut reply = client.echo(request).await.unwrap();
        let came = self::url(&text(reply.get_ref()));
        let fd = reply.descriptors().claim(came, PATIENCE).await.unwrap();
        assert_eq!(content(fd), "got by name", "{inside:?}");
        server.served.stop().await;
    }
}

#[tokio::test]
async fn what_does_not_come_is_missed_in_time_and_a_missing_file_at_once() {
    for inside in BOTH {
        let server = serve(inside, FdLimits::with_inode_table());
        let mut client = server.client(FdLimits::with_inode_table()).await;
        let mut request = Request::new(payload("hello"));
        let missing = request.descriptors().attach_path("/no/such/file");
        let status = tonic::Status::from(missing.unwrap_err());
        assert_eq!(status.code(), Code::NotFound, "{status}");
        let mut reply = client.echo(request).await.unwrap();
        let url = url("inode://1/2");
        let within = Duration::from_millis(20);
        let claimed = reply.descriptors().claim(url, within).await;
        assert_eq!(claimed.unwrap_err(), TakeError::TimedOut { url });
        let status = client.echo(payload("hurry inode://1/2")).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{inside:?} {status}");
        server.served.stop().await;
    }
}

#[tokio::test]
async fn a_table_is_opt_in_on_both_sides() {
    let (served, mirror) = super::service::serve(roomy(), |server| server);
    let mut without = connect(&served, nigh::Wire::Http2, FdLimits::default()).await;
    let mut request = Request::new(Payload::default());
    let url = request.descriptors().attach_inode(named("x")).unwrap();
    let status = without.hold(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(
        status.message().contains(&Incapable::NoTable.to_string()),
        "{status}"
    );
    assert_eq!(mirror.holding.available_permits(), 0, "nothing was sent");
    let mut reply = without.echo(message(&[], 0)).await.unwrap();
    let claimed = reply.descriptors().claim(url, Duration::ZERO).await;
    assert_eq!(claimed.unwrap_err(), TakeError::NoTable);
    served.stop().await;
}

#[tokio::test]
async fn the_oldest_files_go_when_the_table_is_full() {
    for inside in BOTH {
        let mut limits = FdLimits::with_inode_table();
        limits.per_connection_max = 3;
        let server = serve(inside, limits);
        let mut client = server.client(FdLimits::with_inode_table()).await;
        let place = TempSocket::private();
        let mut request = Request::new(payload("hello"));
        let fds = request.descriptors();
        let urls: Vec<InodeUrl> = (0..5)
            .map(|number| fds.attach_inode(file(&place, &number.to_string())).unwrap())
            .collect();
        client.echo(request).await.unwrap();
        let ask = |url: &InodeUrl| payload(&format!("hurry {url}"));
        let gone = client.echo(ask(&urls[1])).await.unwrap_err();
        assert_eq!(gone.code(), Code::DeadlineExceeded, "{inside:?} {gone}");
        let kept = client.echo(ask(&urls[2])).await.unwrap();
        assert_eq!(text(kept.get_ref()), "2");
        server.served.stop().await;
    }
}

#[tokio::test]
async fn inside_tls_an_index_is_refused_for_its_call_alone() {
    let server = serve(Inside::Tls, FdLimits::with_inode_table());
    let mut client = server.client(FdLimits::with_inode_table()).await;
    let mut request = Request::new(payload("hello"));
    request.attach(named("x")).unwrap();
    let status = client.echo(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let why = Incapable::Tls.to_string();
    assert!(status.message().contains(&why), "{status}");
    client.echo(payload("hello")).await.unwrap();
    assert_eq!(server.served.counts().connections_admitted, 1);
    server.served.stop().await;
}

#[tokio::test]
async fn a_handler_is_told_why_its_descriptors_cannot_go() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost");
    let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes()).unwrap();
    let socket = TempSocket::private();
    let tcp = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let elsewhere = tcp.address().to_string();
    let server = Server::new()
        .service(TestServer::new(Mirror::default()))
        .listen_tls(bind(&socket, 0o600), Policy::same_user(), tls)
        .listen_for(tcp, Policy::any());
    let served = Served::by(socket, server);
    let trusted = ClientTls::authority(authority.pem().as_bytes()).unwrap();
    let secured = Channel::options().descriptors(roomy()).tls_on_unix(trusted);
    let secured = secured.connect(served.address()).await.unwrap();
    let remote = Channel::connect(elsewhere.as_str()).await.unwrap();
    for (channel, why) in [(secured, Incapable::Tls), (remote, Incapable::NotLocal)] {
        let mut client = TestClient::new(channel);
        let request = DownloadRequest { count: 1, bytes: 0 };
        let mut messages = client.download(request).await.unwrap().into_inner();
        let status = messages.message().await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(&why.to_string()), "{status}");
        client.echo(message(&[], 0)).await.unwrap();
    }
    served.stop().await;
}
