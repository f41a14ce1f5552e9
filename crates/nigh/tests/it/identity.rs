//! Who called: nigh's `Peer`, and tonic's own type for services written before nigh.

use std::convert::Infallible;

use http::{Request, Response};
use nigh::{Peer, RequestExt as _, ResponseExt as _};
use tonic::body::Body;
use tonic::transport::server::UdsConnectInfo;

use crate::common::{Served, payload};

/// A tower service that answers with what it was told about its caller.
async fn describe(request: Request<Body>) -> Result<Response<String>, Infallible> {
    let Peer::Local(local) = request.peer() else {
        panic!("a Unix socket's caller is local")
    };
    let uds = request.extensions().get::<UdsConnectInfo>().unwrap();
    let credentials = uds.peer_cred.unwrap();
    let name = uds
        .peer_addr
        .as_ref()
        .unwrap()
        .as_pathname()
        .unwrap()
        .display()
        .to_string();
    let arrival = request.arrival();
    assert_eq!(arrival.listener.to_string(), format!("unix:{name}"));
    assert_eq!(arrival.wire, "http/1.1");
    let text = format!("{}|{}|{name}", local.uid(), credentials.uid());
    Ok(Response::new(text))
}

#[tokio::test]
async fn a_handler_learns_who_called_in_nighs_and_in_tonics_terms() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = Served::with(|server| server.fallback(tower::service_fn(describe)));
    let mut raw = tokio::net::UnixStream::connect(served.socket.path())
        .await
        .unwrap();
    raw.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    let told = answer.split("\r\n\r\n").nth(1).unwrap();
    let uid = rustix_uid();
    let path = served.socket.path().display();
    assert_eq!(told, format!("{uid}|{uid}|{path}"));
    served.stop().await;
}

fn rustix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid()
}

#[tokio::test]
async fn a_caller_learns_who_answered() {
    let served = Served::plain();
    let answer = served.client().await.echo(payload("")).await.unwrap();
    let Peer::Local(server) = answer.peer() else {
        panic!("a Unix socket's server is local")
    };
    assert_eq!(server.pid().to_string(), std::process::id().to_string());
    served.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_who_was_demanded_gets_no_byte() {
    let served = Served::plain();
    let options = nigh::Channel::options().server(nigh::Policy::uid(54_321));
    let error = options.connect(served.address()).await.unwrap_err();
    assert!(
        error.to_string().contains("54321") || error.hint().is_some(),
        "{error}"
    );
    let mut same = nigh::Channel::options().server(nigh::Policy::same_user());
    same = same.wait(false);
    let mut client = nigh_testkit::service::proto::test_client::TestClient::new(
        same.connect(served.address()).await.unwrap(),
    );
    client.echo(payload("")).await.unwrap();
    assert_eq!(served.counts().calls_handled, 1);
    served.stop().await;
}
