//! Every kind of call carries descriptors both ways, and a call's metadata stays the user's.

use nigh::{
    AttachError, Descriptors, DescriptorsExt as _, FdIndex, FdLimits, RequestExt as _, TakeError,
    Wire,
};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::test_server::TestServer;
use nigh_testkit::service::proto::{DownloadRequest, Payload};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};

use super::service::{
    Mirror, NAME, connect, mentioned, message, name_of, named, on_both_wires, roomy, serve,
};

async fn a_unary_call_carries_files_both_ways(wire: Wire) {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, FdLimits::default()).await;
    for round in 0..3 {
        let mut request = Request::new(Payload::default());
        let names: Vec<String> = (0..5).map(|number| format!("{round} {number}")).collect();
        let indices: Vec<FdIndex> = names
            .iter()
            .map(|name| request.attach(named(name)).unwrap())
            .collect();
        *request.get_mut() = message(&indices, 9);
        let reply = client.echo(request).await.unwrap();
        assert_eq!(reply.fds().len(), 5);
        let back = mentioned(reply.get_ref());
        for (index, name) in back.iter().zip(&names) {
            assert_eq!(name_of(reply.take_fd(*index).unwrap()), *name);
        }
        assert_eq!(
            reply.take_fd(back[0]).unwrap_err(),
            TakeError::Taken(back[0])
        );
        assert_eq!(
            reply.take_fd(99).unwrap_err(),
            TakeError::Unknown(99.into())
        );
    }
    served.stop().await;
}

async fn a_server_stream_brings_a_file_with_each_message(wire: Wire) {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, roomy()).await;
    let request = DownloadRequest {
        count: 200,
        bytes: 3000,
    };
    let mut reply = client.download(request).await.unwrap();
    let fds = reply.descriptors();
    let mut messages = reply.into_inner();
    let mut number = 0;
    while let Some(message) = messages.message().await.unwrap() {
        let index = mentioned(&message)[0];
        assert_eq!(
            name_of(fds.take(index).unwrap()),
            format!("download {number}")
        );
        number += 1;
    }
    assert_eq!(number, 200);
    served.stop().await;
}

async fn a_client_stream_takes_a_file_with_each_message(wire: Wire) {
    let (served, _) = serve(roomy(), |server| server);
    let mut client = connect(&served, wire, FdLimits::default()).await;
    let fds = Descriptors::new();
    let attached = fds.clone();
    let messages = tokio_stream::iter(0..200).map(move |number| {
        let index = attached.attach(named(&format!("{number:04}"))).unwrap();
        message(&[index], 2000)
    });
    let mut request = Request::new(messages);
    request.extensions_mut().insert(fds.clone());
    let reply = client.upload(request).await.unwrap().into_inner();
    assert_eq!((reply.count, reply.bytes), (200, 800));
    fds.sent(199).await.unwrap();
    assert!(matches!(fds.attach(named("late")), Err(AttachError::Ended)));
    served.stop().await;
}

async fn a_chat_exchanges_files(wire: Wire) {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, FdLimits::default()).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let sending = request.descriptors();
    let mut reply = client.chat(request).await.unwrap();
    let receiving = reply.descriptors();
    let mut answers = reply.into_inner();
    for number in 0..50 {
        let name = format!("chat {number}");
        let index = sending.attach(named(&name)).unwrap();
        sender.send(message(&[index], 100)).await.unwrap();
        sending.sent(index).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        let fd = receiving.take(mentioned(&answer)[0]).unwrap();
        assert_eq!(name_of(fd), name);
    }
    drop(sender);
    assert!(answers.message().await.unwrap().is_none());
    served.stop().await;
}

async fn handlers_see_no_metadata_but_the_callers(wire: Wire) {
    use std::convert::Infallible;
    let spy = |request: http::Request<tonic::body::Body>| async move {
        let names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        let reply = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "9")
            .header("grpc-message", names.join(" "));
        Ok::<_, Infallible>(reply.body(String::new()).unwrap())
    };
    let (served, _) = serve(FdLimits::default(), |server| {
        server.fallback(tower::service_fn(spy))
    });
    let options = nigh::Channel::options()
        .wire(wire)
        .descriptors(FdLimits::default());
    let channel = options.connect(served.address()).await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Payload, Payload>::default();
    let path = http::uri::PathAndQuery::from_static("/spy.Spy/Look");
    let status = client
        .unary(Request::new(Payload::default()), path, codec)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let mut names: Vec<&str> = status.message().split(' ').collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "te", "user-agent"]);
    served.stop().await;
}

async fn files_pass_interceptors_which_see_what_they_always_saw(wire: Wire) {
    let demand = |request: Request<()>| {
        let metadata = request.metadata();
        let is_known = metadata.get("token").is_some_and(|token| token == "secret");
        let strange = metadata.clone().into_headers();
        let mut strange = strange
            .keys()
            .filter(|name| name.as_str().contains("nigh-"));
        match (is_known, request.peer().as_local(), strange.next()) {
            (true, Some(_), None) => Ok(request),
            other => Err(tonic::Status::unauthenticated(format!("{other:?}"))),
        }
    };
    let add = |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("token", "secret".parse().unwrap());
        Ok(request)
    };
    let socket = nigh_testkit::TempSocket::private();
    let listener = crate::common::bind(&socket, 0o600);
    let served = crate::common::Served::of(socket, listener, |server| {
        let service = TestServer::with_interceptor(Mirror::default(), demand);
        server
            .service(service)
            .receive_descriptors(NAME, FdLimits::default())
    });
    let options = nigh::Channel::options()
        .wire(wire)
        .descriptors(FdLimits::default());
    let channel = options.connect(served.address()).await.unwrap();
    let mut client = TestClient::with_interceptor(channel, add);
    let mut request = Request::new(Payload::default());
    let index = request.attach(named("through")).unwrap();
    *request.get_mut() = message(&[index], 0);
    let reply = client.echo(request).await.unwrap();
    let names = reply.metadata().clone().into_headers();
    assert!(names.keys().all(|name| !name.as_str().contains("nigh")));
    let fd = reply.take_fd(mentioned(reply.get_ref())[0]).unwrap();
    assert_eq!(name_of(fd), "through");
    served.stop().await;
}

on_both_wires! {
    a_unary_call_carries_files_both_ways,
    a_server_stream_brings_a_file_with_each_message,
    a_client_stream_takes_a_file_with_each_message,
    a_chat_exchanges_files,
    handlers_see_no_metadata_but_the_callers,
    files_pass_interceptors_which_see_what_they_always_saw,
}
