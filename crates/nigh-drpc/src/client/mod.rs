//! The async client: connects when it is needed, calls, and connects again.

mod blocking;
mod error;
mod exchange;
mod link;
mod options;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nigh_socket::{Address, Peer, connect_packet};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use blocking::{BlockingCall, BlockingClient};
pub use error::{CallError, TransportError};
pub use exchange::Reply;
use exchange::{Draft, Exchange};
use link::Link;
use options::Pauses;
pub use options::{ClientOptions, Speaks};

use crate::wire::{Call, Framing, Status, Violation};

/// Connections that one call is tried on. A server that leaves closes them under calls that it has not got.
const TRIES_MAX: u32 = 6;

/// Calls methods of one server, over one connection at a time. Cheap to clone; clones share the connection.
///
/// A call that the kernel did not take, because the server leaves or has left, is made again on another connection, five
/// times at most: nobody has seen it. One that was sent never is.
///
/// With a server of this project many calls are in flight at once; with any other one is, and the others wait for
/// their turn.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    options: ClientOptions,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    link: Option<Handle>,
    server: Option<Peer>,
    pauses: Pauses,
}

/// The client's hold of a link: without it the link's task ends.
#[derive(Debug)]
struct Handle(Arc<Link>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.retire();
    }
}

impl Client {
    /// A client of the server at `address`, connected. Later it connects again by itself, within the same time.
    ///
    /// # Errors
    /// When the server cannot be reached, or [`Speaks::Probe`] finds no dRPC server.
    pub async fn connect(address: Address, options: ClientOptions) -> Result<Self, CallError> {
        let client = Self::lazy(address, options);
        client.link().await?;
        Ok(client)
    }

    /// As [`connect`](Self::connect), connecting with the first call only.
    #[must_use]
    pub fn lazy(address: Address, options: ClientOptions) -> Self {
        let current = Current {
            link: None,
            server: None,
            pauses: Pauses::new(),
        };
        Self {
            shared: Arc::new(Shared {
                address,
                options,
                current: Mutex::new(current),
            }),
        }
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Who the server is, by what the kernel says of the latest connection; `None` before the first.
    pub async fn server(&self) -> Option<Peer> {
        self.shared.current.lock().await.server.clone()
    }

    /// Calls `method` of `module`; without deadline and descriptors.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up: it is cancelled at a server that understands that, and a late answer is
    /// dropped. The connection stays usable.
    pub async fn call(
        &self,
        module: i32,
        method: i32,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, CallError> {
        let reply = self.request(module, method).body(body).send().await?;
        Ok(reply.body)
    }

    /// Prepares a call of `method` of `module`.
    pub fn request(&self, module: i32, method: i32) -> PreparedCall<'_> {
        PreparedCall {
            client: self,
            draft: Draft {
                module,
                method,
                ..Draft::default()
            },
            deadline: None,
        }
    }

    /// A connection that is not known to be broken.
    async fn link(&self) -> Result<Arc<Link>, CallError> {
        let mut current = self.shared.current.lock().await;
        let options = &self.shared.options;
        if let Some(Handle(link)) = &current.link {
            if link.is_usable() {
                return Ok(Arc::clone(link));
            }
            let has_answered = link.has_answered();
            current.pauses.note(has_answered, options);
            current.link = None;
        }
        if let Some(pause) = current.pauses.pause() {
            tokio::time::sleep(pause).await;
        }
        let (handle, server) = match options.speaks {
            Speaks::Only(framing) => self.open(framing).await?,
            Speaks::Probe => self.open_probed().await?,
        };
        let link = Arc::clone(&handle.0);
        current.server = Some(server);
        current.link = Some(handle);
        Ok(link)
    }

    /// A connection in the framing that the server speaks.
    async fn open_probed(&self) -> Result<(Handle, Peer), CallError> {
        let mut tries = 0;
        loop {
            let (handle, server) = self.open(Framing::Chunked).await?;
            tries += 1;
            match self.probe(&handle.0).await {
                Ok(()) => return Ok((handle, server)),
                Err(CallError::PeerMisbehaved(Violation::LegacyPeer)) => {
                    return self.open(Framing::Legacy).await;
                }
                Err(error) if error.is_unsent() && tries < TRIES_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn open(&self, framing: Framing) -> Result<(Handle, Peer), CallError> {
        let Shared {
            address, options, ..
        } = &*self.shared;
        let connected = connect_packet(address, &options.connecting(None)).await;
        let (socket, peer) = connected.map_err(|error| CallError::Connect(Arc::new(error)))?;
        if framing == Framing::Chunked {
            // No chunk is empty. Where the kernel refuses, stamps are as good.
            let _ = socket.set_empty_packets(false);
        }
        let exchange = Exchange::new(framing, options.features);
        let link = Link::start(socket, exchange, &options.limits);
        Ok((Handle(link), peer))
    }

    /// Calls what nobody has, to learn what the server speaks and understands. drpc §4.5
    async fn probe(&self, link: &Arc<Link>) -> Result<(), CallError> {
        let Call { module, method, .. } = Call::probe(0);
        let draft = Draft {
            module,
            method,
            ..Draft::default()
        };
        match link.call(draft, None).await {
            Ok(Ok(_)) => Ok(()),
            // Whatever it says about a method that it does not have: it has read the call.
            Ok(Err(CallError::Status { status, .. })) if status != Status::FailedUnmarshalCall => {
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(link
                .broken()
                .filter(|error| !error.is_end())
                .unwrap_or_else(|| CallError::unsent(1))),
        }
    }

    async fn send(&self, mut draft: Draft, deadline: Option<Instant>) -> Result<Reply, CallError> {
        let mut tries = 0;
        while tries < TRIES_MAX {
            tries += 1;
            let link = self.link().await?;
            if !draft.fds.is_empty() && !link.is_settled() {
                match self.probe(&link).await {
                    Err(error) if error.is_unsent() => continue,
                    probed => probed?,
                }
            }
            match link.call(draft, deadline).await {
                Ok(outcome) => return outcome,
                Err(unsent) => draft = unsent,
            }
        }
        Err(CallError::unsent(tries))
    }
}

/// A call that is being prepared.
#[derive(Debug)]
#[must_use]
pub struct PreparedCall<'a> {
    client: &'a Client,
    draft: Draft,
    deadline: Option<Duration>,
}

impl PreparedCall<'_> {
    /// The method's argument.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.draft.body = body.into();
        self
    }

    /// How long to wait, connecting and waiting for a place included. A server of this project is told.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Descriptors to go with the call, at most 253. Only servers of this project take them.
    pub fn descriptors(mut self, descriptors: Vec<OwnedFd>) -> Self {
        self.draft.fds = descriptors;
        self
    }

    /// Makes the call.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// As for [`Client::call`].
    pub async fn send(self) -> Result<Reply, CallError> {
        let Self {
            client,
            draft,
            deadline,
        } = self;
        let deadline = deadline.and_then(|time| Instant::now().checked_add(time));
        match deadline {
            None => client.send(draft, None).await,
            Some(at) => tokio::time::timeout_at(at, client.send(draft, deadline))
                .await
                .unwrap_or(Err(CallError::Deadline)),
        }
    }
}
