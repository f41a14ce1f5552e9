//! However a call ends, what nobody took is closed, on both sides and soon.
//!
//! The witness is a pipe: its reader sees the end when the last copy of its writing end is closed.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nigh::{Descriptors, DescriptorsExt as _, FdLimits, Wire};
use nigh_testkit::service::proto::{DownloadRequest, FailRequest, Payload, SleepRequest};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tonic::{Code, Request};

use super::service::{connect, mentioned, message, named, on_both_wires, roomy, serve};

/// Sees the end when every copy of the descriptor is closed.
struct Witness(Receiver);

impl Witness {
    fn new() -> (Self, OwnedFd) {
        let (reader, writer) = std::io::pipe().unwrap();
        (
            Self(Receiver::from_owned_fd(reader.into()).unwrap()),
            writer.into(),
        )
    }

    async fn all_closed(mut self) {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(9), self.0.read(&mut byte)).await;
        assert_eq!(read.unwrap().unwrap(), 0, "a copy is still open");
    }
}

fn carrying<T>(message: T) -> (Request<T>, Witness) {
    let (witness, fd) = Witness::new();
    let mut request = Request::new(message);
    request.attach(&fd).unwrap();
    (request, witness)
}

async fn what_a_handler_does_not_take_is_closed_with_the_answer(wire: Wire) {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, FdLimits::default()).await;
    let (request, witness) = carrying(message(&[], 0));
    client.echo(request).await.unwrap();
    witness.all_closed().await;
    let (request, witness) = carrying(FailRequest::default());
    assert_eq!(
        client.fail(request).await.unwrap_err().code(),
        Code::Aborted
    );
    witness.all_closed().await;
    served.stop().await;
}

async fn what_a_caller_does_not_take_is_closed_with_the_response(wire: Wire) {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, FdLimits::default()).await;
    let (witness, fd) = Witness::new();
    let mut request = Request::new(Payload::default());
    let index = request.attach(&fd).unwrap();
    *request.get_mut() = message(&[index], 0);
    let reply = client.echo(request).await.unwrap();
    drop(fd);
    assert_eq!(reply.fds(), mentioned(reply.get_ref()));
    drop(reply);
    witness.all_closed().await;
    served.stop().await;
}

async fn a_cancelled_call_leaves_nothing_open(wire: Wire) {
    let (served, mirror) = serve(FdLimits::default(), |server| server);
    let client = connect(&served, wire, FdLimits::default()).await;
    let (request, witness) = carrying(message(&[], 0));
    let mut caller = client.clone();
    let held = tokio::spawn(async move { caller.hold(request).await });
    mirror.holding.acquire().await.unwrap().forget();
    held.abort();
    witness.all_closed().await;
    // Never even polled.
    let (request, witness) = carrying(message(&[], 0));
    let mut caller = client.clone();
    drop(caller.hold(request));
    witness.all_closed().await;
    // Polled once: it is queued somewhere.
    let (request, witness) = carrying(message(&[], 0));
    let mut caller = client.clone();
    tokio::select! {
        biased;
        _ = caller.hold(request) => panic!("it is held"),
        () = std::future::ready(()) => {}
    }
    witness.all_closed().await;
    served.stop().await;
}

async fn a_deadline_closes_what_the_call_carried(wire: Wire) {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, FdLimits::default()).await;
    let (mut request, witness) = carrying(SleepRequest::default());
    request.set_timeout(Duration::from_millis(30));
    let status = client.sleep(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    witness.all_closed().await;
    served.stop().await;
}

async fn a_lost_connection_closes_what_its_calls_carried(wire: Wire) {
    let (served, mirror) = serve(FdLimits::default(), |server| {
        let mut limits = nigh::Limits::default();
        limits.connections.drain_time = Duration::from_millis(20);
        server.limits(limits)
    });
    let mut client = connect(&served, wire, FdLimits::default()).await;
    let (request, witness) = carrying(message(&[], 0));
    let held = tokio::spawn(async move { client.hold(request).await });
    mirror.holding.acquire().await.unwrap().forget();
    served.stop().await;
    assert_eq!(held.await.unwrap().unwrap_err().code(), Code::Unavailable);
    witness.all_closed().await;
}

async fn a_stream_that_is_left_closes_what_it_brought(wire: Wire) {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, roomy()).await;
    for _ in 0..20 {
        let request = DownloadRequest {
            count: 100,
            bytes: 0,
        };
        let mut reply = client.download(request).await.unwrap();
        let fds = reply.descriptors();
        let mut messages = reply.into_inner();
        messages.message().await.unwrap().unwrap();
        drop(messages);
        assert!(
            fds.take(0).is_err(),
            "the call has ended for this side, too"
        );
    }
    served.stop().await;
}

async fn whoever_waits_for_an_unsent_descriptor_is_told(wire: Wire) {
    let fds = Descriptors::new();
    let index = fds.attach(named("never")).unwrap();
    assert!(fds.sent(77).await.is_err());
    let (served, mirror) = serve(FdLimits::default(), |server| server);
    let mut client = connect(&served, wire, FdLimits::default()).await;
    let mut request = Request::new(message(&[index], 0));
    request.extensions_mut().insert(fds.clone());
    let held = tokio::spawn(async move { client.hold(request).await });
    mirror.holding.acquire().await.unwrap().forget();
    fds.sent(index).await.unwrap();
    held.abort();
    let _ = held.await;
    assert!(fds.attach(named("late")).is_err());
    served.stop().await;
}

on_both_wires! {
    what_a_handler_does_not_take_is_closed_with_the_answer,
    what_a_caller_does_not_take_is_closed_with_the_response,
    a_cancelled_call_leaves_nothing_open,
    a_deadline_closes_what_the_call_carried,
    a_lost_connection_closes_what_its_calls_carried,
    a_stream_that_is_left_closes_what_it_brought,
    whoever_waits_for_an_unsent_descriptor_is_told,
}
