//! What answers a connect and is no gRPC server: found out while connecting, not by the first call.

use std::time::Duration;

use nigh::{Channel, ChannelError};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::test_client::TestClient;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tonic::Code;

use crate::common::payload;

/// Connects to a server that does `act` with each of its connections.
async fn connected_to<F>(
    act: impl Fn(UnixStream) -> F + Send + 'static,
    timeout: Duration,
) -> ChannelError
where
    F: Future<Output = ()> + Send + 'static,
{
    let socket = TempSocket::private();
    let listener = UnixListener::bind(socket.path()).unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(act(stream));
        }
    });
    let options = Channel::options().timeout(timeout);
    let error = options
        .clone()
        .connect(socket.address().as_str())
        .await
        .unwrap_err();
    // The same through a call.
    let lazy = options.lazy(socket.address().as_str()).unwrap();
    let status = TestClient::new(lazy).echo(payload("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    serving.abort();
    error
}

const LONG: Duration = Duration::from_secs(60);

fn cause(error: &ChannelError) -> String {
    let ChannelError::Handshake { source, .. } = error else {
        panic!("{error}");
    };
    assert!(error.is_unreachable() && error.hint().is_some());
    source.to_string()
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_no_server() {
    let speak = |mut stream: UnixStream| async move {
        let greeting = b"220 mail.example ESMTP\r\n";
        stream.write_all(greeting).await.unwrap();
        std::future::pending().await
    };
    let error = connected_to(speak, LONG).await;
    assert!(cause(&error).contains("220"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_no_server() {
    let error = connected_to(|stream| async move { drop(stream) }, LONG).await;
    assert!(!cause(&error).is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_within_the_time() {
    let hold = |stream: UnixStream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    };
    let error = connected_to(hold, Duration::from_millis(50)).await;
    assert!(matches!(error, ChannelError::TimedOut { .. }), "{error}");
}
