//! What is too much, or not wanted, fails the call that brought it, with the limit's name; the connection lives.

use nigh::{Channel, DescriptorsExt as _, FdLimits, Incapable, Server, Wire};
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use tonic::{Code, Request, Status};

use super::service::{Mirror, connect, message, named, on_both_wires, roomy, serve};
use crate::common::{Served, bind};

/// A call of `echo` that carries so many files and mentions them.
async fn carry(client: &mut TestClient<Channel>, count: usize) -> Result<usize, Status> {
    let mut request = Request::new(Payload::default());
    let mut indices = Vec::new();
    for _ in 0..count {
        indices.push(request.attach(named("x"))?);
    }
    *request.get_mut() = message(&indices, 0);
    Ok(client.echo(request).await?.fds().len())
}

/// As `carry`, once the thread that closes has given back what an earlier call was refused for.
async fn carry_soon(client: &mut TestClient<Channel>, count: usize) -> usize {
    loop {
        match carry(client, count).await {
            Ok(came) => return came,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
    }
}

fn limited(change: impl FnOnce(&mut FdLimits)) -> FdLimits {
    let mut limits = FdLimits::default();
    change(&mut limits);
    limits
}

#[track_caller]
fn assert_exhausted(refused: Result<usize, Status>, words: &str) {
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains(words), "{status}");
}

async fn each_limit_of_the_server_is_named(wire: Wire) {
    let (served, _) = serve(limited(|limits| limits.per_call_max = 3), |server| server);
    let mut client = connect(&served, wire, roomy()).await;
    assert_eq!(carry_soon(&mut client, 3).await, 3);
    assert_exhausted(
        carry(&mut client, 4).await,
        "limit of 3 descriptors in one call",
    );
    assert_eq!(carry_soon(&mut client, 3).await, 3);
    served.stop().await;

    let (served, _) = serve(limited(|limits| limits.per_connection_max = 5), |server| {
        server
    });
    let mut client = connect(&served, wire, roomy()).await;
    assert_exhausted(
        carry(&mut client, 6).await,
        "limit of 5 descriptors waiting on one connection",
    );
    assert_eq!(carry_soon(&mut client, 5).await, 5);
    served.stop().await;

    let (served, _) = serve(roomy(), |server| {
        let mut limits = nigh::Limits::default();
        limits.connections.descriptors_per_uid_max = 4;
        server.limits(limits)
    });
    let mut client = connect(&served, wire, roomy()).await;
    assert_exhausted(
        carry(&mut client, 5).await,
        "limit of 4 descriptors waiting for one user",
    );
    assert_eq!(carry_soon(&mut client, 4).await, 4);
    served.stop().await;
}

async fn a_loss_is_told_at_once_while_the_handler_waits(wire: Wire) {
    let (served, _) = serve(limited(|limits| limits.per_call_max = 3), |server| server);
    let mut client = connect(&served, wire, roomy()).await;
    let fds = nigh::Descriptors::new();
    let (say, said) = tokio::sync::mpsc::channel::<Payload>(1);
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(said));
    request.extensions_mut().insert(fds.clone());
    let mut answers = client.chat(request).await.unwrap().into_inner();
    // No message follows: the handler has nothing to read and nothing to say.
    for _ in 0..4 {
        fds.attach(named("x")).unwrap();
    }
    let told = answers.message().await;
    assert_exhausted(told.map(|_| 0), "limit of 3 descriptors in one call");
    drop(say);
    assert_eq!(served.counts().connections_admitted, 1);
    served.stop().await;
}

async fn one_user_shares_one_allowance_over_all_its_connections(wire: Wire) {
    let (served, mirror) = serve(roomy(), |server| {
        let mut limits = nigh::Limits::default();
        limits.connections.descriptors_per_uid_max = 4;
        server.limits(limits)
    });
    let mut first = connect(&served, wire, roomy()).await;
    let mut second = connect(&served, wire, roomy()).await;
    let held = tokio::spawn(async move {
        let mut request = Request::new(message(&[], 0));
        for _ in 0..3 {
            request.attach(named("x")).unwrap();
        }
        first.hold(request).await
    });
    mirror.holding.acquire().await.unwrap().forget();
    assert_exhausted(carry(&mut second, 2).await, "for one user");
    assert_eq!(carry_soon(&mut second, 1).await, 1);
    mirror.gate.add_permits(1);
    held.await.unwrap().unwrap();
    assert_eq!(carry_soon(&mut second, 4).await, 4);
    served.stop().await;
}

async fn the_callers_limits_hold_for_answers(wire: Wire) {
    let (served, _) = serve(roomy(), |server| server);
    let mut client = connect(&served, wire, limited(|limits| limits.per_call_max = 2)).await;
    assert_eq!(carry_soon(&mut client, 2).await, 2);
    assert_exhausted(
        carry(&mut client, 3).await,
        "limit of 2 descriptors in one call",
    );
    assert_eq!(carry_soon(&mut client, 2).await, 2);
    assert_eq!(served.counts().connections_admitted, 1);
    served.stop().await;
}

async fn a_message_with_many_files_is_carried_in_pieces(wire: Wire) {
    let (served, _) = serve(limited(|limits| limits.per_message_max = 7), |server| {
        server
    });
    let mut client = connect(&served, wire, roomy()).await;
    assert_eq!(carry_soon(&mut client, 60).await, 60);
    served.stop().await;
}

/// The text of a refusal that came before anything was sent.
async fn refused(channel: Channel) -> String {
    let status = carry(&mut TestClient::new(channel), 1).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    status.message().to_owned()
}

async fn where_nothing_can_be_carried_nothing_is_sent(wire: Wire) {
    let served = Served::plain();
    let plain = Channel::connect(served.address()).await.unwrap();
    assert!(
        refused(plain)
            .await
            .contains(&Incapable::NotAsked.to_string())
    );
    let options = || {
        Channel::options()
            .wire(wire)
            .descriptors(FdLimits::default())
    };
    let channel = options().connect(served.address()).await.unwrap();
    assert!(
        refused(channel)
            .await
            .contains(&Incapable::NotAccepted.to_string())
    );
    let tcp = options().lazy("tcp:127.0.0.1:1").unwrap();
    assert!(
        refused(tcp)
            .await
            .contains(&Incapable::NotLocal.to_string())
    );
    let https = nigh::ClientTls::system()
        .map(|tls| options().tls(tls).lazy("https://localhost:1").unwrap());
    if let Ok(https) = https {
        assert!(
            refused(https)
                .await
                .contains(&Incapable::NotLocal.to_string())
        );
    }
    assert_eq!(served.service.runs().started, 0);
    served.stop().await;
}

#[tokio::test]
async fn a_stock_server_is_never_sent_a_descriptor() {
    let socket = nigh_testkit::TempSocket::private();
    let listener = tokio::net::UnixListener::bind(socket.path()).unwrap();
    let service = nigh_testkit::service::TestService::default();
    let stock = hyper_util::service::TowerToHyperService::new(service.server());
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let executor = hyper_util::rt::TokioExecutor::new();
            let server = hyper::server::conn::http2::Builder::new(executor);
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(server.serve_connection(io, stock.clone()));
        }
    });
    let options = Channel::options().descriptors(FdLimits::default());
    let channel = options.connect(socket.address().as_str()).await.unwrap();
    assert!(
        refused(channel.clone())
            .await
            .contains(&Incapable::NotNigh.to_string())
    );
    assert_eq!(service.runs().started, 0);
    // Without attachments, calls are as they always were.
    let mut client = TestClient::new(channel);
    for _ in 0..3 {
        client.echo(message(&[], 300 * 1024)).await.unwrap();
    }
    serving.abort();
}

async fn a_service_that_did_not_opt_in_gets_nothing(wire: Wire) {
    let socket = nigh_testkit::TempSocket::private();
    let listener = bind(&socket, 0o600);
    let mirror = nigh_testkit::service::proto::test_server::TestServer::new(Mirror::default());
    let served = Served::of(socket, listener, |server: Server| {
        let server = server.service(mirror).health();
        server.receive_descriptors("grpc.health.v1.Health", FdLimits::default())
    });
    let mut client = connect(&served, wire, roomy()).await;
    let status = carry(&mut client, 1).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("takes no descriptors"),
        "{status}"
    );
    assert_eq!(carry_soon(&mut client, 0).await, 0);
    served.stop().await;
}

#[tokio::test]
async fn a_listener_without_receivers_has_the_kernel_refuse() {
    let socket = nigh_testkit::TempSocket::private();
    let listener = bind(&socket, 0o600);
    if listener.passes_rights().unwrap() {
        nigh_testkit::skip("this kernel has no SO_PASSRIGHTS");
        return;
    }
    // Before any server runs, and while one does.
    assert!(!takes(&socket));
    let served = Served::on(socket, listener, |server| server);
    served.client().await.echo(message(&[], 0)).await.unwrap();
    assert!(!takes(&served.socket));
    served.stop().await;
    // What a listener was told before does not matter to the server.
    let socket = nigh_testkit::TempSocket::private();
    let options = nigh::Listener::options().pass_rights(true);
    let listener = options.bind(socket.address().as_str()).unwrap();
    assert!(takes(&socket));
    let served = Served::on(socket, listener, |server| server);
    served.client().await.echo(message(&[], 0)).await.unwrap();
    assert!(!takes(&served.socket));
    served.stop().await;
    let (served, _) = serve(roomy(), |server| server);
    let mut client = connect(&served, Wire::Auto, roomy()).await;
    client.echo(message(&[], 0)).await.unwrap();
    assert!(takes(&served.socket));
    served.stop().await;
}

/// Whether the kernel lets a caller that comes now send a descriptor.
fn takes(socket: &nigh_testkit::TempSocket) -> bool {
    use std::os::fd::AsFd as _;
    let connected = std::os::unix::net::UnixStream::connect(socket.path()).unwrap();
    connected.set_nonblocking(true).unwrap();
    let stream = nigh_socket::UnixStream::new(connected.into()).unwrap();
    let file = named("x");
    let sent = stream.try_send_with_fds(&[std::io::IoSlice::new(b"x")], &[file.as_fd()]);
    match sent {
        Ok(_) => true,
        Err(nigh_socket::SendError::DescriptorsRefused) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_name_that_is_not_served_is_a_mistake() {
    let socket = nigh_testkit::TempSocket::private();
    let listener = bind(&socket, 0o600);
    let server = Server::new().receive_descriptors("no.Such", FdLimits::default());
    let error = server.serve(listener).await.unwrap_err();
    assert!(error.to_string().contains("no.Such"), "{error}");
}

on_both_wires! {
    each_limit_of_the_server_is_named,
    a_loss_is_told_at_once_while_the_handler_waits,
    one_user_shares_one_allowance_over_all_its_connections,
    the_callers_limits_hold_for_answers,
    a_message_with_many_files_is_carried_in_pieces,
    where_nothing_can_be_carried_nothing_is_sent,
    a_service_that_did_not_opt_in_gets_nothing,
}
