//! A privileged helper that opens files and binds ports for callers a policy allows, and writes down what it did.
//!
//! `broker serve SOCKET ROOT` runs until it is killed; `broker` shows it, with a caller, on a directory of its own.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "broker/caller.rs"]
mod caller;
#[path = "broker/service.rs"]
mod service;

use std::error::Error;

use nigh::{Listener, Policy, Server};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::broker_server::BrokerServer;

type Fault = Box<dyn Error + Send + Sync>;

async fn serve(socket: &str, root: &str) -> Result<(), Fault> {
    let broker = service::Files::beneath(root)?;
    let listener = Listener::options().bind(format!("unix:{socket}").as_str())?;
    let server = Server::new()
        // Who may ask at all: the helper's own user here, a group in earnest.
        .policy(Policy::same_user())
        .service(BrokerServer::new(broker));
    // It takes no descriptors, and the kernel is told so; giving needs no leave.
    server.serve(listener).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, socket, root] = arguments.as_slice()
        && role == "serve"
    {
        return serve(socket, root).await;
    }
    let here = TempSocket::private();
    let socket = here.path().display().to_string();
    let root = here.directory().display().to_string();
    std::fs::write(here.join("notes.txt"), "what the caller could not open")?;
    std::os::unix::fs::symlink("/etc/passwd", here.join("way-out"))?;
    let serving = tokio::spawn({
        let socket = socket.clone();
        async move { serve(&socket, &root).await }
    });
    let called = caller::call(&socket).await;
    serving.abort();
    called
}
