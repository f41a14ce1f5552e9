//! One channel outlives its connections: killed, replaced and late servers.

use nigh::{Channel, Server};
use nigh_testkit::TempSocket;
use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::test_client::TestClient;
use tonic::Code;

use crate::common::{Served, bind, payload};

#[tokio::test]
async fn a_channel_survives_a_restart_of_its_server() {
    let mut first = Served::plain();
    let mut client = first.client().await;
    client.echo(payload("")).await.unwrap();
    first.begin_stop();
    let (socket, _) = first.leave().await;
    let listener = bind(&socket, 0o600);
    let second = Served::on(socket, listener, |server| server);
    client.echo(payload("")).await.unwrap();
    assert_eq!(second.service.runs().started, 1);
    second.stop().await;
}

#[tokio::test]
async fn a_channel_waits_for_a_server_that_is_late() {
    let socket = TempSocket::private();
    let mut client = TestClient::new(Channel::options().lazy(socket.address().as_str()).unwrap());
    let call = tokio::spawn(async move { client.echo(payload("early")).await });
    // The call is under way, with nobody there, before the server binds.
    tokio::task::yield_now().await;
    let listener = bind(&socket, 0o600);
    let served = Served::on(socket, listener, |server| server);
    assert_eq!(call.await.unwrap().unwrap().into_inner().data, b"early");
    served.stop().await;
}

#[tokio::test]
async fn the_deadline_counts_the_connecting() {
    let socket = TempSocket::private();
    let mut client = TestClient::new(Channel::options().lazy(socket.address().as_str()).unwrap());
    let mut request = tonic::Request::new(payload(""));
    request.set_timeout(std::time::Duration::from_millis(30));
    assert_eq!(
        client.echo(request).await.unwrap_err().code(),
        Code::DeadlineExceeded
    );
}

#[tokio::test]
async fn a_missing_server_is_unavailable_and_says_which() {
    let socket = TempSocket::private();
    let options = Channel::options().wait(false);
    let mut client = TestClient::new(options.lazy(socket.address().as_str()).unwrap());
    let status = client.echo(payload("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(&socket.address()), "{status}");
}

#[tokio::test]
async fn a_call_in_flight_on_a_killed_connection_fails_once_as_unavailable() {
    let socket = TempSocket::private();
    let listener = bind(&socket, 0o600);
    let service = TestService::default();
    let server = Server::new().service(service.server()).listen(listener);
    let running = tokio::spawn(server.run(std::future::pending()));
    let mut client = TestClient::new(Channel::connect(socket.address().as_str()).await.unwrap());
    let held = tokio::spawn(async move { client.hold(payload("")).await });
    service.started(1).await;
    running.abort();
    let status = held.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    service.ended(1).await;
    assert_eq!(service.runs().started, 1);
}

#[tokio::test]
async fn an_inherited_descriptor_is_one_connection_and_says_so_when_it_has_ended() {
    let served = Served::plain();
    let connected = std::os::unix::net::UnixStream::connect(served.socket.path()).unwrap();
    connected.set_nonblocking(true).unwrap();
    let number = nigh_testkit::inherited(connected.into());
    let channel = Channel::connect(format!("fd:{number}").as_str())
        .await
        .unwrap();
    let mut client = TestClient::new(channel);
    client.echo(payload("")).await.unwrap();
    served.stop().await;
    let status = loop {
        // The end of the connection is noticed by its own task.
        match client.echo(payload("")).await {
            Err(status) if status.message().contains("has ended") => break status,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            Ok(_) => panic!("nobody is there"),
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_server_listens_on_an_inherited_socket_and_leaves_its_name_and_queue_alone() {
    let socket = TempSocket::private();
    let parents = std::os::unix::net::UnixListener::bind(socket.path()).unwrap();
    let ours = parents.try_clone().unwrap();
    let number = nigh_testkit::inherited(ours.into());
    let listener = nigh::Listener::options()
        .bind(format!("fd:{number}").as_str())
        .unwrap();
    let served = Served::on(socket, listener, |server| server);
    let channel = Channel::connect(served.address()).await.unwrap();
    let mut client = TestClient::new(channel);
    client.echo(payload("")).await.unwrap();
    let path = served.socket.path().to_owned();
    let mut served = served;
    served.begin_stop();
    let (_socket, drained) = served.leave().await;
    assert_eq!(drained.cut_off, 0);
    // The next server of the same socket gets those who come in between.
    let waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    parents.set_nonblocking(true).unwrap();
    parents.accept().unwrap();
    drop(waiting);
}
