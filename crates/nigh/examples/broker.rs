//! A privileged helper that opens files and binds ports for callers a policy allows, and writes down what it did.
//!
//! `broker serve SOCKET ROOT PORTS POLICY`, such as `broker serve /run/broker/s /srv/notes 80,443 group:web`, runs until
//! it is killed; `broker` shows it, with a caller, on a directory of its own. It gives the files beneath ROOT, for reading,
//! and the PORTS of the loopback address, and nothing else: so it may be root where its callers are not.
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

async fn serve(socket: &str, root: &str, ports: &[u16], policy: Policy) -> Result<(), Fault> {
    let broker = service::Giver::new(root, ports)?;
    // Anybody may connect, and whom the policy does not admit is told so in gRPC's words; the kernel says who calls.
    let options = Listener::options().mode(0o666);
    let listener = options.bind(format!("unix:{socket}").as_str())?;
    let server = Server::new()
        .policy(policy)
        .service(BrokerServer::new(broker));
    // It takes no descriptors, and the kernel lets nobody send any; giving needs no leave.
    server.serve(listener).await?;
    Ok(())
}

fn ports(text: &str) -> Result<Vec<u16>, std::num::ParseIntError> {
    text.split(',').map(str::parse).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, socket, root, list, policy] = arguments.as_slice()
        && role == "serve"
    {
        return serve(socket, root, &ports(list)?, policy.parse()?).await;
    }
    let here = TempSocket::private();
    let socket = here.path().display().to_string();
    let root = here.directory().display().to_string();
    std::fs::write(here.join("notes.txt"), "what the caller could not open")?;
    std::os::unix::fs::symlink("/etc/passwd", here.join("way-out"))?;
    let serving = tokio::spawn({
        let socket = socket.clone();
        // Port 0 is one of the kernel's choice; 81 takes a privilege.
        async move { serve(&socket, &root, &[0, 81], Policy::same_user()).await }
    });
    let called = caller::call(&socket).await;
    serving.abort();
    called
}
