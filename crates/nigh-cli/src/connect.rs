//! Connects to the server that a command names.

use nigh::{Channel, ChannelError};

use crate::cli::Connect;

/// A channel to the server, connected.
pub(crate) async fn channel(to: &Connect) -> Result<Channel, ChannelError> {
    Channel::options()
        .timeout(to.timeout)
        .wait(to.wait)
        .connect(to.address.clone())
        .await
}
