//! Descriptors that the kernel drops or refuses: that call fails and says which limit, the connection lives.

use std::io::IoSlice;
use std::os::fd::{AsFd as _, OwnedFd};

use nigh::{Channel, DescriptorsExt as _, FdLimits, Policy, Wire};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{DownloadRequest, Payload};
use nigh_testkit::{Child, TempSocket};
use tonic::{Code, Request, Status};

use super::service::{
    generous, mentioned, message, named, on_both_wires, roomy, serve, wire_of_child, word,
};
use super::table::{self, Inside};

/// Sends so many files, and gets them back.
async fn carry(client: &mut TestClient<Channel>, count: usize) -> Result<usize, Status> {
    let mut request = Request::new(Payload::default());
    let mut indices = Vec::new();
    for _ in 0..count {
        indices.push(request.attach(named("x"))?);
    }
    *request.get_mut() = message(&indices, 0);
    let reply = client.echo(request).await?;
    Ok(mentioned(reply.get_ref()).len())
}

async fn client_of(address: &str, wire: Wire) -> TestClient<Channel> {
    let options = Channel::options().wire(wire).descriptors(roomy());
    TestClient::new(options.connect(address).await.unwrap())
}

/// Leaves this process with so many free descriptors.
fn leave(free: usize) -> Vec<OwnedFd> {
    nigh_testkit::limit_descriptors(256);
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut taken: Vec<OwnedFd> = Vec::new();
    while let Ok(copy) = file.try_clone() {
        taken.push(copy.into());
    }
    taken.truncate(taken.len() - free);
    taken
}

async fn a_caller_without_descriptors_left_loses_the_call_that_brings_them(wire: Wire) {
    let (served, mirror) = serve(roomy(), generous);
    mirror.gate.add_permits(99);
    let child = Child::test("fds::losses::starved_caller")
        .env("NIGH_TEST_SERVER", served.socket.address())
        .env("NIGH_TEST_WIRE", word(wire));
    child.run_async().await.assert_success();
    assert_eq!(
        served.counts().connections_admitted,
        1,
        "the connection lived"
    );
    served.stop().await;
}

#[tokio::test]
#[ignore = "runs as a child of a_caller_without_descriptors_left_loses_the_call_that_brings_them"]
async fn starved_caller() {
    let mut client = client_of(
        &nigh_testkit::child_variable("NIGH_TEST_SERVER"),
        wire_of_child(),
    )
    .await;
    carry(&mut client, 3).await.unwrap();
    let taken = leave(3);
    // The loss is told as soon as it is known: with the head of the answer, or with a message.
    let status = read_all(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("RLIMIT_NOFILE"), "{status}");
    client.echo(message(&[], 0)).await.unwrap();
    drop(taken);
    assert_eq!(carry(&mut client, 3).await.unwrap(), 3);
}

/// Reads twenty messages with a file each, and keeps the files.
async fn read_all(client: &mut TestClient<Channel>) -> Result<Vec<OwnedFd>, Status> {
    let request = DownloadRequest {
        count: 20,
        bytes: 0,
    };
    let mut reply = client.download(request).await?;
    let fds = reply.descriptors();
    let mut messages = reply.into_inner();
    let mut came = Vec::new();
    while let Some(message) = messages.message().await? {
        came.push(fds.take(mentioned(&message)[0])?);
    }
    Ok(came)
}

async fn a_server_without_descriptors_left_fails_the_call_that_brings_them(wire: Wire) {
    let mut child = Child::test("fds::losses::starved_server").spawn();
    let (mut child, address) = tokio::task::spawn_blocking(move || {
        let address = child.wait_for("serving ");
        (child, address)
    })
    .await
    .unwrap();
    let mut client = client_of(&address, wire).await;
    carry(&mut client, 1).await.unwrap();
    client.hold(message(&[], 0)).await.unwrap();
    let status = carry(&mut client, 10).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("RLIMIT_NOFILE"), "{status}");
    client.echo(message(&[], 0)).await.unwrap();
    client.hold(message(&[], 0)).await.unwrap();
    assert_eq!(carry(&mut client, 10).await.unwrap(), 10);
    child.kill();
}

#[tokio::test]
#[ignore = "runs as a child of a_server_without_descriptors_left_fails_the_call_that_brings_them"]
async fn starved_server() {
    let (served, mirror) = serve(roomy(), generous);
    println!("serving {}", served.socket.address());
    // The first `hold` makes it poor, the second rich again.
    mirror.holding.acquire().await.unwrap().forget();
    let taken = leave(4);
    mirror.gate.add_permits(1);
    mirror.holding.acquire().await.unwrap().forget();
    drop(taken);
    mirror.gate.add_permits(1);
    std::future::pending::<()>().await;
}

async fn too_many_in_flight_fails_the_call_and_not_the_connection(wire: Wire) {
    nigh_testkit::require_root!();
    let (served, _) = serve(roomy(), |server| generous(server).policy(Policy::any()));
    let child = Child::test("fds::losses::many_in_flight")
        .user(61_998, 61_998, &[])
        .env("NIGH_TEST_SERVER", served.socket.address())
        .env("NIGH_TEST_WIRE", word(wire));
    child.run_async().await.assert_success();
    assert_eq!(
        served.counts().connections_admitted,
        1,
        "the connection lived"
    );
    served.stop().await;
}

#[tokio::test]
#[ignore = "runs as a child of too_many_in_flight_fails_the_call_and_not_the_connection"]
async fn many_in_flight() {
    let mut client = client_of(
        &nigh_testkit::child_variable("NIGH_TEST_SERVER"),
        wire_of_child(),
    )
    .await;
    carry(&mut client, 3).await.unwrap();
    nigh_testkit::limit_descriptors(100);
    let (from, to) = nigh_socket::UnixStream::pair().unwrap();
    let file = named("parked");
    let parked = [file.as_fd(); 20];
    while from
        .try_send_with_fds(&[IoSlice::new(b"x")], &parked)
        .is_ok()
    {}
    let status = carry(&mut client, 3).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("ETOOMANYREFS"), "{status}");
    client.echo(message(&[], 0)).await.unwrap();
    drop((from, to));
    // The kernel collects what was in flight when it gets round to it.
    loop {
        match carry(&mut client, 3).await {
            Ok(count) => break assert_eq!(count, 3),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
    }
}

async fn a_caller_that_takes_none_by_the_kernels_word_fails_its_own_call(wire: Wire) {
    let (served, _) = serve(roomy(), generous);
    let connected = std::os::unix::net::UnixStream::connect(served.socket.path()).unwrap();
    connected.set_nonblocking(true).unwrap();
    let stream = nigh_socket::UnixStream::new(connected.try_clone().unwrap().into()).unwrap();
    if !stream.set_pass_rights(false).unwrap() {
        nigh_testkit::skip("this kernel has no SO_PASSRIGHTS");
        return;
    }
    drop(stream);
    let number = nigh_testkit::inherited(connected.into());
    let mut client = client_of(&format!("fd:{number}"), wire).await;
    let status = carry(&mut client, 2).await.unwrap_err();
    assert_not_permitted(&status);
    client.echo(message(&[], 0)).await.unwrap();
    served.stop().await;
}

#[track_caller]
fn assert_not_permitted(status: &Status) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    for words in ["EPERM", "pass_rights", "security module"] {
        assert!(status.message().contains(words), "{status}");
    }
}

/// A connection to `server` through a socket at which the kernel takes no descriptors; `None` where it cannot refuse them.
async fn through_a_socket_that_takes_none(server: &nigh::Address) -> Option<TempSocket> {
    let place = TempSocket::private();
    let listener = tokio::net::UnixListener::bind(place.path()).unwrap();
    let (here, _there) = nigh_socket::UnixStream::pair().unwrap();
    if !here.set_pass_rights(false).unwrap() {
        nigh_testkit::skip("this kernel has no SO_PASSRIGHTS");
        return None;
    }
    let to = std::path::PathBuf::from(server.to_string().trim_start_matches("unix:"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let copy = stream.as_fd().try_clone_to_owned().unwrap();
            let told = nigh_socket::UnixStream::new(copy).unwrap();
            assert!(told.set_pass_rights(false).unwrap());
            let mut upstream = tokio::net::UnixStream::connect(&to).await.unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut stream, &mut upstream).await },
            );
        }
    });
    Some(place)
}

async fn a_caller_whose_kernel_may_not_send_fails_its_own_call(wire: Wire) {
    let (served, _) = serve(roomy(), generous);
    let Some(place) = through_a_socket_that_takes_none(&served.address()).await else {
        return;
    };
    let mut client = client_of(&place.address(), wire).await;
    assert_not_permitted(&carry(&mut client, 2).await.unwrap_err());
    client.echo(message(&[], 0)).await.unwrap();
    // In the middle of a stream, too; the handler that waits for its next message does not keep the caller waiting.
    let (say, said) = tokio::sync::mpsc::channel(1);
    let fds = nigh::Descriptors::new();
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(said));
    request.extensions_mut().insert(fds.clone());
    let mut answers = client.chat(request).await.unwrap().into_inner();
    say.send(message(&[], 0)).await.unwrap();
    answers.message().await.unwrap().unwrap();
    fds.attach(named("x")).unwrap();
    assert_not_permitted(&answers.message().await.unwrap_err());
    client.echo(message(&[], 0)).await.unwrap();
    assert_eq!(served.counts().connections_admitted, 1);
    served.stop().await;
}

#[tokio::test]
async fn in_grpcfds_way_a_refusal_of_the_kernel_fails_its_call_alone_too() {
    for inside in [Inside::Plain, Inside::Tls] {
        let server = table::serve(inside, FdLimits::with_inode_table());
        let address = server.served.address();
        let Some(place) = through_a_socket_that_takes_none(&address).await else {
            return;
        };
        let limits = FdLimits::with_inode_table();
        let mut client = server.client_at(&place.address(), limits).await;
        let mut request = Request::new(Payload::default());
        request.descriptors().attach_inode(named("x")).unwrap();
        assert_not_permitted(&client.echo(request).await.unwrap_err());
        client.echo(Payload::default()).await.unwrap();

        // The other way: the server's descriptors meet a caller's socket that takes none.
        let connected = std::os::unix::net::UnixStream::connect(server.served.socket.path());
        let connected = connected.unwrap();
        connected.set_nonblocking(true).unwrap();
        let told = nigh_socket::UnixStream::new(connected.try_clone().unwrap().into()).unwrap();
        assert!(told.set_pass_rights(false).unwrap());
        drop(told);
        let number = nigh_testkit::inherited(connected.into());
        let mut client = server.client_at(&format!("fd:{number}"), limits).await;
        let ask = crate::common::payload("give /dev/null");
        for _ in 0..20 {
            // Always told, also when the whole answer was ready before its first byte left.
            assert_not_permitted(&client.echo(ask.clone()).await.unwrap_err());
        }
        client.echo(Payload::default()).await.unwrap();
        let request = DownloadRequest { count: 3, bytes: 0 };
        let mut answers = client.download(request).await.unwrap().into_inner();
        let failed = loop {
            match answers.message().await {
                Ok(message) => assert!(message.is_some(), "a stream that looks whole"),
                Err(status) => break status,
            }
        };
        assert_not_permitted(&failed);
        client.echo(Payload::default()).await.unwrap();
        server.served.stop().await;
    }
}

on_both_wires! {
    a_caller_without_descriptors_left_loses_the_call_that_brings_them,
    a_server_without_descriptors_left_fails_the_call_that_brings_them,
    too_many_in_flight_fails_the_call_and_not_the_connection,
    a_caller_whose_kernel_may_not_send_fails_its_own_call,
    a_caller_that_takes_none_by_the_kernels_word_fails_its_own_call,
}
