//! flagd's protocols over one store: what every one of them needs, and how they hang on a server.

mod codec;
mod connect;
mod cors;
mod events;
mod http;
mod metrics;
mod ofrep;
mod peer;
mod resolve;
mod sync;

/// Messages and clients of flagd's protocols, as generated.
pub mod proto {
    /// The services' description, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

    /// `flagd.evaluation`.
    pub mod evaluation {
        /// Version 1.
        #[expect(missing_docs, unused_qualifications, reason = "generated code")]
        pub mod v1 {
            tonic::include_proto!("flagd.evaluation.v1");
        }
        /// Version 2.
        #[expect(missing_docs, unused_qualifications, reason = "generated code")]
        pub mod v2 {
            tonic::include_proto!("flagd.evaluation.v2");
        }
    }
    /// `flagd.sync`.
    pub mod sync {
        /// Version 1.
        #[expect(missing_docs, unused_qualifications, reason = "generated code")]
        pub mod v1 {
            tonic::include_proto!("flagd.sync.v1");
        }
    }
}

use std::sync::Arc;
use std::time::Duration;

use nigh::Server;
use serde_json::Value;
use tokio::sync::watch;

use crate::source::Hub;
pub use metrics::Metrics;
pub use peer::{PeerFact, UnknownFact};

/// Bytes of one request's body, as flagd has it.
pub const REQUEST_BYTES_MAX: usize = 1_000_000;

/// Idle time after which an event stream says that it lives, as flagd has it.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The RPC services, as health and reflection name them.
pub const SERVICES: [&str; 3] = [
    "flagd.evaluation.v1.Service",
    "flagd.evaluation.v2.Service",
    "flagd.sync.v1.FlagSyncService",
];

/// Ties callers to a set of flags by what the kernel knows of them.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Whom it concerns.
    pub policy: nigh::Policy,
    /// The set; `None` for all flags, and the caller's own choice among them.
    pub set: Option<String>,
}

/// How the protocols behave.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Attributes that every evaluation has, over what callers say.
    pub context: Vec<(String, Value)>,
    /// Headers that become attributes: header name in lower case, attribute.
    pub context_from_headers: Vec<(String, String)>,
    /// Facts about callers that become attributes, with the attribute's name. They win over everything: a
    /// caller cannot forge them.
    pub context_from_peer: Vec<(PeerFact, String)>,
    /// Which flags each caller sees, by who it is. With any, a caller that none admits is refused; the
    /// first that admits it counts, and its header no longer does.
    pub pins: Vec<Pin>,
    /// Longest life of a stream; `None` for no end.
    pub stream_deadline: Option<Duration>,
    /// Idle time after which an event stream says that it lives. Default [`KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// Bytes of one request's body. Default [`REQUEST_BYTES_MAX`].
    pub request_bytes_max: usize,
    /// Origins that browsers may call from; `*` for all.
    pub cors_origins: Vec<String>,
    /// Leaves `GetMetadata` out.
    pub disable_sync_metadata: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            context: Vec::new(),
            context_from_headers: Vec::new(),
            context_from_peer: Vec::new(),
            pins: Vec::new(),
            stream_deadline: None,
            keep_alive: KEEP_ALIVE,
            request_bytes_max: REQUEST_BYTES_MAX,
            cors_origins: Vec::new(),
            disable_sync_metadata: false,
        }
    }
}

/// What all protocols share. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct Flagd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hub: Arc<Hub>,
    options: Options,
    metrics: Metrics,
    news: events::News,
    stopping: watch::Sender<bool>,
    /// Counts the times that streams were let go.
    released: watch::Sender<u64>,
}

impl Flagd {
    /// The protocols over what `hub` reads.
    #[must_use]
    pub fn new(hub: Arc<Hub>, options: Options) -> Self {
        let inner = Inner {
            hub,
            options,
            metrics: Metrics::default(),
            news: events::News::default(),
            stopping: watch::Sender::new(false),
            released: watch::Sender::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Adds every protocol to `server`, and health.
    #[must_use]
    pub fn serve_on(&self, server: Server) -> Server {
        self.add_to(server.health())
    }

    /// Adds every protocol to `server` as its fallback, which also says whether it is alive and ready. Health under
    /// the services' names, and their description, are told where `server` tells such things.
    #[must_use]
    pub fn add_to(&self, mut server: Server) -> Server {
        let counters = server.counters();
        self.inner.metrics.watch(counters);
        for name in SERVICES {
            server = server.health_of(name);
        }
        let replaced = self.clone();
        server
            .on_replaced(move || replaced.release())
            .reflection(proto::FILE_DESCRIPTOR_SET)
            .fallback(http::service(self))
    }

    /// Ends all streams, so that their clients go elsewhere. Call it when the server begins to stop.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// Ends the streams that there are, as a server does that was replaced: their clients go to its successor. New ones
    /// are served.
    pub fn release(&self) {
        self.inner.released.send_modify(|times| *times += 1);
    }

    /// Whether every source has been read once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.hub.store.view().waiting().is_empty()
    }
}
