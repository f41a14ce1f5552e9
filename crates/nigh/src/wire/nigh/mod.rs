//! The nigh wire, the server's side (docs/wire/nigh.md): greeting, then one task per connection.

mod answer;
mod connection;
mod pace;
#[cfg(test)]
mod tests;

use std::io::IoSlice;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::{Claim, Served, Session, Wire, WireError};
use crate::frame::greeting::{self, DESCRIPTORS, Greeting, MAGIC, SHARED_MEMORY};
use crate::io::Io;
use crate::limits::NighLimits;
use crate::shared_memory::SharedMemory;
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

    fn serve(&self, mut io: Io, mut session: Session) -> Served {
        Box::pin(async move {
            let time = session.limits.connections.greeting_time;
            let shaken = tokio::time::timeout(time, greet(&mut io, &session.limits.nigh)).await;
            let (theirs, ours, rest, place) = shaken.map_err(|_| WireError::Silent(time))??;
            if ours.features & DESCRIPTORS == 0 {
                // Not agreed on, or the socket carries nothing any more.
                session.calls = session.calls.linked(None);
                io = io.shed_descriptors();
            }
            // The lane's place is taken until the connection has ended.
            let _place = place;
            io.suit_frames(session.limits.nigh.spin);
            let connection = Connection::new(io, rest, (ours, theirs), session);
            connection.run().await.map_err(WireError::named)
        })
    }
}

/// Both greetings, what came behind the client's, and the place among the lanes if there is one.
type Greeted = (Greeting, Greeting, BytesMut, Option<OwnedSemaphorePermit>);

/// Reads the client's greeting and answers it.
async fn greet(io: &mut Io, limits: &NighLimits) -> Result<Greeted, WireError> {
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
    let mut ours = Greeting {
        version: theirs.version.min(greeting::VERSION),
        features: 0,
        frame_bytes_max: limits.frame_bytes_max,
        header_bytes_max: limits.header_bytes_max,
        stream_window: limits.stream_window_bytes,
        connection_window: limits.connection_window_bytes,
        streams_max: limits.concurrent_calls_max,
        paths_max: limits.paths_max,
        descriptors_max: 0,
    }
    .clamped();
    if theirs.features & DESCRIPTORS != 0
        && let Some(fds) = io.link()
    {
        // Clause 13.1; with shared memory there are none (13.10).
        ours.features |= DESCRIPTORS;
        ours.descriptors_max = fds.per_message();
        fds.ride_on_frames(theirs.descriptors_max);
        return answer(io, theirs, ours, rest).await;
    }
    let is_offered = theirs.features & SHARED_MEMORY != 0;
    if is_offered
        && rest.is_empty()
        && let Some(place) = share(io, &limits.shared_memory, &mut ours).await?
    {
        return Ok((theirs, ours, rest, Some(place)));
    }
    answer(io, theirs, ours, rest).await
}

async fn answer(
    io: &mut Io,
    theirs: Greeting,
    ours: Greeting,
    rest: BytesMut,
) -> Result<Greeted, WireError> {
    io.write_all(&ours.encode()).await?;
    io.flush().await?;
    Ok((theirs, ours, rest, None))
}

/// Answers with a lane (clause 14.2) and moves there; `None`: nothing was sent, and there will be none.
async fn share(
    io: &mut Io,
    terms: &SharedMemory,
    ours: &mut Greeting,
) -> Result<Option<OwnedSemaphorePermit>, WireError> {
    if !terms.suits(io) {
        return Ok(None);
    }
    let (Some((lane, place)), Some(socket)) = (terms.lane(), io.unix()) else {
        return Ok(None);
    };
    let answer = Greeting {
        features: ours.features | SHARED_MEMORY,
        ..*ours
    };
    let bytes = answer.encode();
    let sent = socket
        .send_with_fds(&[IoSlice::new(&bytes)], &lane.descriptors())
        .await;
    let sent = match sent {
        Ok(sent) => sent,
        Err(error) => {
            tracing::warn!("a connection stays on its socket: {error}");
            return Ok(None);
        }
    };
    *ours = answer;
    io.write_all(bytes.get(sent..).unwrap_or_default()).await?;
    io.switch(lane, terms.policy())?;
    Ok(Some(place))
}
