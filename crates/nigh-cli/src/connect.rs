//! Connects to the server that a command names.

use std::time::Duration;

use nigh_socket::Address;
use tonic::transport::{Channel, Endpoint};

use crate::cli::Connect;
use crate::error::Failure;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{address}")]
pub struct ConnectFailure {
    address: Address,
    #[source]
    source: tonic::transport::Error,
}

impl ConnectFailure {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some("is the server running? --wait waits for it".into())
    }
}

/// A channel to the server, connected.
pub(crate) async fn channel(to: &Connect) -> Result<Channel, Failure> {
    let failed = |source| {
        Failure::Connect(ConnectFailure {
            address: to.address.clone(),
            source,
        })
    };
    let Ok(endpoint) = Endpoint::from_shared(to.address.to_string()) else {
        return endpoint_later(to.timeout).await.map_err(failed);
    };
    endpoint
        .connect_timeout(to.timeout)
        .connect()
        .await
        .map_err(failed)
}

async fn endpoint_later(_: Duration) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_static("unix:/nonexistent").connect().await
}
