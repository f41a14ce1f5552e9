//! The crossover: an answer as bytes in a message, as sealed memory made for it, and as sealed memory that is there already.
//!
//! Usage: `.. -- sealed [ROUNDS]`. Whoever asks reads every byte, and both processes are on one core.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use nigh::{Channel, DescriptorsExt as _, FdLimits, MemoryFile, SealedFile};
use nigh_testkit::service::proto::broker_client::BrokerClient;
use nigh_testkit::service::proto::broker_server::{Broker, BrokerServer};
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::wish::Wish as Kind;
use nigh_testkit::service::proto::{DownloadRequest, Gift, Wish};
use tonic::{Request, Response, Status};

use crate::measure::Server;
use crate::place::{self, Place};
use crate::server::MESSAGE_MAX;
use crate::{Failure, Variant};

const ROUNDS: usize = 15;

/// Answers in sealed memory: made anew, or (with the top bit of the wish) the one that was made before.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    kept: std::sync::Mutex<Option<SealedFile>>,
}

const KEPT: u32 = 1 << 31;

impl Memory {
    fn fresh(length: u32) -> std::io::Result<SealedFile> {
        let mut file = MemoryFile::create("bench")?;
        let piece = vec![7; 1 << 20];
        let mut left = usize::try_from(length).unwrap_or_default();
        while left > 0 {
            let written = file.write(piece.get(..left.min(piece.len())).unwrap_or_default())?;
            left -= written;
        }
        file.seal()
    }
}

#[tonic::async_trait]
impl Broker for Memory {
    async fn give(&self, request: Request<Wish>) -> Result<Response<Gift>, Status> {
        let Some(Kind::Bind(wish)) = request.into_inner().wish else {
            return Err(Status::invalid_argument("no length"));
        };
        let length = wish & !KEPT;
        let mut reply = Response::new(Gift::default());
        let is_kept = wish & KEPT != 0;
        let mut kept = self
            .kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let same = kept
            .as_ref()
            .is_some_and(|file| file.length().is_ok_and(|its| its == u64::from(length)));
        if !is_kept || !same {
            *kept = Some(Self::fresh(length)?);
        }
        if let Some(file) = &*kept {
            reply.get_mut().fd = reply.attach(file)?.into();
        }
        Ok(reply)
    }
}

pub(crate) fn service() -> BrokerServer<Memory> {
    BrokerServer::new(Memory::default())
}

pub(crate) fn run(mut words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let rounds = match words.next() {
        Some(word) => word.parse()?,
        None => ROUNDS,
    };
    if place::keeps_memory()? {
        return Ok(());
    }
    Place::Same.take(false)?;
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("s");
    let _server = Server::start(Variant::Nigh, &socket, Place::Same)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!(
        "{:>10} {:>22} {:>22} {:>22}",
        "bytes", "message us", "sealed, made us", "sealed, there us"
    );
    runtime.block_on(table(&socket, rounds))
}

async fn table(socket: &Path, rounds: usize) -> Result<(), Failure> {
    let address = format!("unix:{}", socket.display());
    let options = Channel::options().wire(nigh::Wire::Nigh);
    let plain = options.clone().connect(address.as_str()).await?;
    let mut plain = TestClient::new(plain).max_decoding_message_size(2 * MESSAGE_MAX);
    let options = options.descriptors(FdLimits::default());
    let mut sealed = BrokerClient::new(options.connect(address.as_str()).await?);
    for power in 16..=26 {
        let length = 1_u32 << power;
        let mut columns = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..=rounds {
            for (column, times) in columns.iter_mut().enumerate() {
                let started = Instant::now();
                let seen = match column {
                    0 => message(&mut plain, length).await?,
                    1 => memory(&mut sealed, length, 0).await?,
                    _ => memory(&mut sealed, length, KEPT).await?,
                };
                if seen != u64::from(length) * 7 {
                    return Err("other bytes than were sent".into());
                }
                times.push(started.elapsed().as_micros());
            }
        }
        let columns = columns.map(|mut times| {
            // The first round warms up.
            times.remove(0);
            times.sort_unstable();
            let at = |index: usize| times.get(index).copied().unwrap_or_default();
            format!(
                "{} ({}..{})",
                at(times.len() / 2),
                at(0),
                at(times.len() - 1)
            )
        });
        println!(
            "{length:>10} {:>22} {:>22} {:>22}",
            columns[0], columns[1], columns[2]
        );
    }
    Ok(())
}

/// Reads every byte.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

async fn message(client: &mut TestClient<Channel>, bytes: u32) -> Result<u64, Failure> {
    let request = DownloadRequest { count: 1, bytes };
    let mut messages = client.download(request).await?.into_inner();
    let mut seen = 0;
    while let Some(message) = messages.message().await? {
        seen += sum(&message.data);
    }
    Ok(seen)
}

async fn memory(
    client: &mut BrokerClient<Channel>,
    length: u32,
    kept: u32,
) -> Result<u64, Failure> {
    let wish = Wish {
        wish: Some(Kind::Bind(length | kept)),
    };
    let mut reply = client.give(wish).await?;
    let index = reply.get_ref().fd;
    Ok(sum(&reply
        .descriptors()
        .take_sealed(index, MESSAGE_MAX as u64)?))
}
