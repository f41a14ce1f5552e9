//! Where flags come from, and what happens when a source is read: the store, the log, the counts.

mod address;
mod fetch;
mod file;
mod grpc;
mod seat;
mod watch;
mod web;

pub use address::{Address, AddressError, Config, Grpc, Http};
pub use fetch::HttpError;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::join_all;
use nigh::ClientTls;

use crate::eval::Evaluator;
use crate::model::LoadError;
use crate::store::Store;
use seat::Seat;

/// Why a source could not be read this time. What was read before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read, or is gone.
    #[error("cannot read it")]
    Io(#[source] io::Error),
    /// It is no UTF-8 text.
    #[error("it is no UTF-8 text")]
    NotText,
    /// Its flags cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A web server gives no document.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A gRPC server gives no flags.
    #[error("{0:?}: {1}")]
    Rpc(tonic::Code, String),
    /// A gRPC server ended its stream.
    #[error("its stream has ended")]
    Ended,
    /// The reading itself was broken off.
    #[error("reading it was broken off")]
    BrokenOff,
}

impl From<tonic::Status> for ReadError {
    fn from(status: tonic::Status) -> Self {
        Self::Rpc(status.code(), status.message().to_owned())
    }
}

/// Why a source cannot be followed at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel has no inotify instance to spare.
    #[error("source {name:?}: the kernel gives no notice of files")]
    Watch {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of certificates cannot be read.
    #[error("source {name:?}: cannot read {}", path.display())]
    Certificate {
        /// The source.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are no usable certificates.
    #[error("source {name:?}")]
    Tls {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: nigh::TlsError,
    },
    /// There is no way to the server.
    #[error("source {name:?}")]
    Channel {
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: Box<nigh::ChannelError>,
    },
}

/// How often sources were read.
#[derive(Debug, Default)]
pub struct Counts {
    /// Reads that gave flags.
    pub good: AtomicU64,
    /// Reads that failed, after which the last good flags stayed.
    pub bad: AtomicU64,
}

/// What every source works for.
#[derive(Debug)]
pub struct Hub {
    /// Where flags go.
    pub store: Arc<Store>,
    /// What compiles them.
    pub evaluator: Arc<Evaluator>,
    /// How often.
    pub counts: Counts,
}

impl Hub {
    /// A hub for these sources, none of them read yet: [`Sources::start`] reads them.
    #[must_use]
    pub fn new(sources: &[Address], evaluator: Evaluator) -> Arc<Self> {
        let names = sources.iter().map(|source| source.name().to_owned());
        Arc::new(Self {
            store: Arc::new(Store::new(names)),
            evaluator: Arc::new(evaluator),
            counts: Counts::default(),
        })
    }
}

/// An error with its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whom a source on another server has to be vouched for by.
fn authorities(name: &str, certificates: Option<&Path>) -> Result<ClientTls, StartError> {
    let tls = match certificates {
        None => ClientTls::system(),
        Some(path) => {
            let pem = std::fs::read(path).map_err(|source| StartError::Certificate {
                name: name.to_owned(),
                path: path.to_owned(),
                source,
            })?;
            ClientTls::authority(&pem)
        }
    };
    tls.map_err(|source| StartError::Tls {
        name: name.to_owned(),
        source,
    })
}

/// Longest time that a start waits for sources on other servers.
const FIRST_MAX: Duration = Duration::from_secs(5);

/// Reads every source once, then follows them all until dropped.
#[derive(Debug)]
pub struct Sources {
    tasks: tokio::task::JoinSet<()>,
}

impl Sources {
    /// Reads each source once and then follows it. A source on another server that does not answer within some
    /// seconds is followed all the same: it counts as not read yet.
    ///
    /// # Errors
    /// See [`StartError`]; a source that cannot be read now is none.
    pub async fn start(addresses: &[Address], hub: &Arc<Hub>) -> Result<Self, StartError> {
        let mut tasks = tokio::task::JoinSet::new();
        let mut firsts = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let (seat, first) = Seat::new(index, address.name(), hub);
            match address {
                Address::File { name, path } => {
                    let follower = file::Follower::new(seat, path.clone());
                    let mut follower = follower.map_err(|source| StartError::Watch {
                        name: name.clone(),
                        source,
                    })?;
                    follower.begin().await;
                    tasks.spawn(follower.run());
                }
                Address::Http(source) => {
                    tasks.spawn(web::Follower::new(seat, source)?.run());
                    firsts.push(first);
                }
                Address::Grpc(source) => {
                    tasks.spawn(grpc::Follower::new(seat, source)?.run());
                    firsts.push(first);
                }
            }
        }
        // Slow ones come when they come.
        let _ = tokio::time::timeout(FIRST_MAX, join_all(firsts)).await;
        Ok(Self { tasks })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}
