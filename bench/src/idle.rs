//! Memory that an idle connection costs: each end's resident bytes before and after many connections have made one call.
//!
//! Usage: `.. -- idle [CONNECTIONS]`. The kernel's own memory for a socket is in neither.

use std::path::Path;

use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;

use crate::measure::Server;
use crate::place::{self, Place};
use crate::{Failure, Variant};

/// Fewer than a server takes of one user by default.
const CONNECTIONS: usize = 128;

pub(crate) fn run(mut words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let count = match words.next() {
        Some(word) => word.parse()?,
        None => CONNECTIONS,
    };
    if place::keeps_memory()? {
        return Ok(());
    }
    println!(
        "{:<26} {:>16} {:>16}",
        "", "client, B each", "server, B each"
    );
    for variant in [Variant::Tonic, Variant::NighHttp2, Variant::Nigh] {
        let (client, server) = one(variant, count)?;
        println!("{:<26} {client:>16} {server:>16}", variant.name());
    }
    Ok(())
}

fn one(variant: Variant, count: usize) -> Result<(u64, u64), Failure> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("s");
    let server = Server::start(variant, &socket, Place::Unpinned)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // What the first few cost is not each one's.
        let mut open = Vec::new();
        for _ in 0..8 {
            open.push(connect(variant, &socket).await?);
        }
        let before = (resident("self")?, resident(&server.id())?);
        for _ in 0..count {
            open.push(connect(variant, &socket).await?);
        }
        let after = (resident("self")?, resident(&server.id())?);
        drop(open);
        let each = |before: u64, after: u64| after.saturating_sub(before) / count as u64;
        Ok((each(before.0, after.0), each(before.1, after.1)))
    })
}

/// A connection that has made one call.
async fn connect(variant: Variant, socket: &Path) -> Result<Box<dyn std::any::Any>, Failure> {
    let address = format!("unix:{}", socket.display());
    let payload = Payload { data: vec![7; 64] };
    if variant == Variant::Tonic {
        let endpoint = tonic::transport::Endpoint::from_shared(address)?;
        let mut client = TestClient::new(endpoint.connect().await?);
        client.echo(payload).await?;
        return Ok(Box::new(client));
    }
    let wire = match variant {
        Variant::Nigh => nigh::Wire::Nigh,
        _ => nigh::Wire::Http2,
    };
    let options = nigh::Channel::options().wire(wire);
    let mut client = TestClient::new(options.connect(address.as_str()).await?);
    client.echo(payload).await?;
    Ok(Box::new(client))
}

/// Bytes of a process's own memory that are in use.
fn resident(process: &str) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Anonymous:"));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: u64 = word.ok_or("no Anonymous: in smaps_rollup")?.parse()?;
    Ok(kilobytes * 1024)
}
