//! A stand-in for DAOS's security agent: says to each caller who it is, as the kernel vouches for it.
//!
//! `agent PATH` serves until it is killed; without a path it shows one call of itself.

#[path = "agent/credential.rs"]
mod credential;

use credential::{GetCredReq, GetCredResp, Sys, credential};
use nigh_drpc::{Client, ClientOptions, Failure, Modules, Server, Typed, listener};
use nigh_socket::{Address, Policy};
use prost::Message as _;

nigh_drpc::service! {
    /// Credentials of the caller.
    trait SecAgent, client SecAgentClient, blocking BlockingSecAgent, module 1 "SEC_AGENT" {
        /// Who the caller is, in DAOS's form.
        request_creds = 101 (GetCredReq) -> GetCredResp;
    }
}

struct Agent {
    machine: String,
}

impl SecAgent for Agent {
    async fn request_creds(&self, call: Typed<GetCredReq>) -> Result<GetCredResp, Failure> {
        let peer = call.request.peer.as_local();
        let sys = peer.and_then(|peer| Sys::of(peer, &self.machine));
        let sys = sys.ok_or_else(|| Failure::new("the kernel does not say who is calling"))?;
        Ok(credential(&sys))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let short = name.trim().split('.').next().unwrap_or_default();
    let mut modules = Modules::new();
    let agent = Agent {
        machine: short.to_owned(),
    };
    modules.register(agent.into_module())?;
    // As DAOS has it: whoever reaches the socket may ask who he is.
    let server = Server::new(modules).policy(Policy::any());
    let path = std::env::args().nth(1);
    let own = format!("/tmp/nigh-agent-{}", std::process::id());
    let address = Address::Path(path.clone().unwrap_or(own).into());
    let bound = listener()
        .mode(0o666)
        .allow_shared_parent(true)
        .bind(address.clone())?;
    let server = server.listen(bound);
    if path.is_some() {
        server.run(std::future::pending()).await?;
        return Ok(());
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let client = SecAgentClient::new(Client::connect(address, ClientOptions::default()).await?);
    let answer = client.request_creds(&GetCredReq {}).await?;
    let token = answer.credential.and_then(|credential| credential.token);
    println!("{:?}", Sys::decode(&*token.unwrap_or_default().data)?);
    drop((client, stop));
    running.await??;
    Ok(())
}
