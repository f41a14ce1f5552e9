//! Files by inode URL, as Go's grpcfd sends them: a server, a client, and both in one process without arguments.
//!
//! `grpcfd serve SOCKET [CERT KEY]` · `grpcfd call SOCKET [CA]`, one line per check · `grpcfd`
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "grpcfd/chat.rs"]
mod chat;
#[path = "grpcfd/client.rs"]
mod client;
#[path = "grpcfd/content.rs"]
mod content;
#[path = "grpcfd/echo.rs"]
mod echo;
#[path = "grpcfd/server.rs"]
mod server;

use std::error::Error;

use nigh_testkit::TempSocket;

type Fault = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, socket, tls @ ..] if role == "serve" => server::serve(socket, tls).await,
        [role, socket, tls @ ..] if role == "call" => client::call(socket, tls).await,
        _ => {
            let here = TempSocket::private();
            let socket = here.path().display().to_string();
            let serving = tokio::spawn({
                let socket = socket.clone();
                async move { server::serve(&socket, &[]).await }
            });
            let called = client::call(&socket, &[]).await;
            serving.abort();
            called
        }
    }
}
