//! The other end of `interop/drpc`: `peer serve PATH` answers, `peer call PATH FRAMING` checks a server; alone it does
//! both.

#[path = "peer/check.rs"]
mod check;

use bytes::Bytes;
use nigh_drpc::wire::Framing::{Chunked, Legacy};
use nigh_drpc::{Failure, Module, Modules, RegisterError, Request, Server, Speaks, listener};
use nigh_socket::{Address, Policy};
use prost::Message as _;

fn modules() -> Result<Modules, RegisterError> {
    let mut modules = Modules::new();
    let greet = async |call: Request| {
        let name = String::decode(call.body)?;
        Ok(format!("Hello {name}").encode_to_vec())
    };
    let echo = async |call: Request| Ok(call.body);
    let fail = async |_: Request| Err::<Bytes, _>(Failure::new("as asked"));
    modules.register(Module::new(0, "TEST").method(0, "GREETING", greet))?;
    let module = Module::new(77, "ECHO").method(1, "ECHO", echo);
    modules.register(module.method(2, "FAIL", fail))?;
    Ok(modules)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let own = format!("/tmp/nigh-peer-{}", std::process::id());
    let address = Address::Path(arguments.get(1).cloned().unwrap_or(own).into());
    if arguments.first().is_none_or(|verb| verb == "serve") {
        let options = listener().allow_shared_parent(true);
        let bound = options.bind(address.clone())?;
        let server = Server::new(modules()?).policy(Policy::same_user());
        if !arguments.is_empty() {
            server.serve(bound).await?;
            return Ok(());
        }
        tokio::spawn(server.serve(bound));
    }
    let (name, framing, large) = match arguments.get(2).map(String::as_str) {
        Some("legacy") => ("legacy", Legacy, 100_000),
        _ => ("chunked", Chunked, 300_000),
    };
    let checks = move || {
        let told = check::check(&address, name, Speaks::Only(framing), large)?;
        let name = format!("probing {name}");
        Ok::<_, nigh_drpc::CallError>(told & check::check(&address, &name, Speaks::Probe, large)?)
    };
    let all = tokio::task::spawn_blocking(checks).await??;
    if all {
        Ok(())
    } else {
        Err("a check failed".into())
    }
}
