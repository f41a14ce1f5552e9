//! The nigh wire, the server's side (docs/wire/nigh.md): greeting, then one task per connection.

mod answer;
mod connection;
mod pace;
#[cfg(test)]
mod tests;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Claim, Served, Session, Wire, WireError};
use crate::frame::greeting::{self, Greeting, MAGIC};
use crate::io::Io;
use crate::limits::NighLimits;
use connection::Connection;

#[derive(Debug)]
pub(super) struct Nigh;

impl Wire for Nigh {
    fn name(&self) -> &'static str {
        "nigh"
    }

    fn claim(&self, first: &[u8]) -> Claim {
        match (first.starts_with(&MAGIC), MAGIC.starts_with(first)) {
            (true, _) => Claim::Mine,
            (false, true) => Claim::Undecided,
            (false, false) => Claim::NotMine,
        }
    }

    fn serve(&self, mut io: Io, session: Session) -> Served {
        Box::pin(async move {
            let time = session.limits.connections.greeting_time;
            let shaken = tokio::time::timeout(time, greet(&mut io, &session.limits.nigh)).await;
            let (theirs, ours, rest) = shaken.map_err(|_| WireError::Silent(time))??;
            io.suit_frames();
            Connection::new(io, rest, (ours, theirs), session)
                .run()
                .await
        })
    }
}

/// Reads the client's greeting and answers it: theirs, ours, and what came behind theirs.
async fn greet(
    io: &mut Io,
    limits: &NighLimits,
) -> Result<(Greeting, Greeting, BytesMut), WireError> {
    let mut read = BytesMut::with_capacity(256);
    let (theirs, length) = loop {
        if let Some(found) = Greeting::decode(&read)? {
            break found;
        }
        if io.read_buf(&mut read).await? == 0 {
            return Err(WireError::Unrecognised);
        }
    };
    let rest = read.split_off(length);
    let ours = Greeting {
        version: theirs.version.min(greeting::VERSION),
        features: 0,
        frame_bytes_max: limits.frame_bytes_max,
        header_bytes_max: limits.header_bytes_max,
        stream_window: limits.stream_window_bytes,
        connection_window: limits.connection_window_bytes,
        streams_max: limits.concurrent_calls_max,
        paths_max: limits.paths_max,
    }
    .clamped();
    io.write_all(&ours.encode()).await?;
    io.flush().await?;
    Ok((theirs, ours, rest))
}
