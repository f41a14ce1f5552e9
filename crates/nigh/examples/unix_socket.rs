//! A stock tonic service on a Unix socket and one call to it: `cargo run -p nigh --example unix_socket`.

use std::error::Error;

use nigh::{Channel, Listener, Policy, RequestExt, ResponseExt, Server};
use nigh_testkit::TempSocket;
use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::{Payload, test_client::TestClient, test_server::TestServer};
use tokio::sync::oneshot;
use tonic::{Request, Status};

/// Sees every call before its handler does; a handler asks for the peer in the same way.
fn announce(request: Request<()>) -> Result<Request<()>, Status> {
    println!("{} calls", request.peer());
    Ok(request)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = TempSocket::private();
    let address = place.address();

    let listener = Listener::options().mode(0o600).bind(address.as_str())?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new()
        .policy(Policy::same_user())
        .service(TestServer::with_interceptor(
            TestService::default(),
            announce,
        ))
        .listen(listener);
    let serving = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));

    let channel = Channel::connect(address.as_str()).await?;
    let data = b"hello".to_vec();
    let reply = TestClient::new(channel).echo(Payload { data }).await?;
    println!("{} answers", reply.peer());

    drop(stop);
    println!("{:?}", serving.await??);
    Ok(())
}
