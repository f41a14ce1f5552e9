//! Connects to the server that a command names.

use nigh::{Channel, ChannelError, Wire};

use crate::cli::Connect;

/// A channel to the server, connected.
pub(crate) async fn channel(to: &Connect, wire: Wire) -> Result<Channel, ChannelError> {
    Channel::options()
        .timeout(to.timeout)
        .wait(to.wait)
        .wire(wire)
        .connect(to.address.clone())
        .await
}
