//! Connects to the server that a command names.

use nigh::{Channel, ChannelError, FdLimits, Wire};

use crate::cli::Connect;

/// A channel to the server, connected; its calls carry descriptors within `limits`, if there are some.
pub(crate) async fn channel(
    to: &Connect,
    wire: Wire,
    limits: Option<FdLimits>,
) -> Result<Channel, ChannelError> {
    let options = Channel::options()
        .timeout(to.timeout)
        .wait(to.wait)
        .wire(wire);
    let options = match limits {
        Some(limits) => options.descriptors(limits),
        None => options,
    };
    options.connect(to.address.clone()).await
}
