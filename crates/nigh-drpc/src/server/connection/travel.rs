//! A connection between two calls can go to another process: its socket, and what was agreed on it so far.
//!
//! Older DAOS clients read the end of a connection as a success with an empty body, so a server that is replaced must
//! not end one. Packets that wait in the socket travel with it; nothing is read here that is not answered here.

use std::pin::Pin;
use std::sync::Arc;

use nigh_socket::{Drain, DrainReason, Hold, Peer, UnixSeqpacket};
use tokio::time::Instant;

use super::{Agreement, Connection, Ending};
use crate::link::Inbound;
use crate::server::calls::Shared;
use crate::wire::{Features, Framing};

/// The form of the state below. A successor that knows another one leaves the connection where it is.
const VERSION: u8 = 1;

/// How serving a connection ended, if not by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There is nothing more to do.
    Left,
    /// It is between two calls, and a successor serves.
    MayGo,
    /// Its caller calls without a pause, and there is a thread for it.
    IsBusy,
}

/// What was agreed on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    framing: Option<Framing>,
    /// A first call has been answered, so offers come too late.
    is_told: bool,
    features: Features,
}

impl Agreed {
    /// `version framing told features`, the last as eight bytes.
    pub(crate) fn encode(self) -> [u8; 11] {
        let framing = match self.framing {
            None => 0,
            Some(Framing::Chunked) => 1,
            Some(Framing::Legacy) => 2,
        };
        let mut bytes = [0; 11];
        let (head, features) = bytes.split_at_mut(3);
        head.copy_from_slice(&[VERSION, framing, u8::from(self.is_told)]);
        features.copy_from_slice(&self.features.bits().to_le_bytes());
        bytes
    }

    /// `None` for what this version did not write.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, framing, told @ (0 | 1)], features) = bytes.split_first_chunk()? else {
            return None;
        };
        Some(Self {
            framing: match framing {
                0 => None,
                1 => Some(Framing::Chunked),
                2 => Some(Framing::Legacy),
                _ => return None,
            },
            is_told: told == 1,
            features: Features::from_bits(u64::from_le_bytes(features.try_into().ok()?)),
        })
    }

    /// Whether a server with these settings could have agreed to it.
    pub(crate) fn suits(self, shared: &Shared) -> bool {
        let framing = match (&shared.framing, self.framing) {
            (Ok(ours), Some(theirs)) => *ours == theirs,
            _ => true,
        };
        framing && shared.features.has(self.features)
    }
}

impl Connection {
    /// Goes on where another process stopped.
    pub(crate) fn resumed(
        shared: Arc<Shared>,
        socket: UnixSeqpacket,
        peer: Peer,
        drain: Option<Drain>,
        agreed: Agreed,
    ) -> Self {
        let mut this = Self::new(shared, socket, peer, drain);
        if let Some(framing) = agreed.framing {
            this.inbound = Inbound::new(Ok(framing), &this.shared.limits);
        }
        if agreed.is_told {
            this.agreement = Agreement::Told;
        }
        this.features = agreed.features;
        if agreed.features.has(Features::ROWS) {
            this.outbox.use_rows();
            this.inbound.use_rows();
        }
        this
    }

    /// Serves until the end, or until a successor has the connection.
    pub(crate) async fn serve_or_go(mut self, hold: &mut Hold) -> Result<(), Ending> {
        loop {
            let mut ended = self.serve().await?;
            if let Some(permit) = self.permit.take() {
                let back = self.serve_on_thread(permit).await?;
                self = back.0;
                match back.1 {
                    Some(then) => ended = then,
                    None => continue,
                }
            }
            match ended {
                Ended::Left => return Ok(()),
                Ended::MayGo if hold.pass_on(&self.line, &self.agreed().encode()).await => {
                    return Ok(());
                }
                // It serves this server still: anew if the successor died, else to its next pause.
                Ended::MayGo => self.stay(hold.renew_drain()),
                Ended::IsBusy => {}
            }
        }
    }

    /// Whether nothing is read that is not answered, and somebody else could go on.
    pub(super) fn may_go(&self) -> bool {
        let reason = self.signal.as_ref().and_then(Drain::reason);
        self.is_draining
            && !self.stays
            && !self.is_shut
            && reason == Some(DrainReason::Replaced)
            && !self.has_ended
            && self.held.is_none()
            && !matches!(self.agreement, Agreement::Granted(_))
            && self.is_idle()
    }

    fn agreed(&self) -> Agreed {
        Agreed {
            framing: self.inbound.framing(),
            is_told: matches!(self.agreement, Agreement::Told),
            features: self.features,
        }
    }

    fn stay(&mut self, drain: Option<Drain>) {
        self.is_draining = drain.as_ref().is_some_and(Drain::has_begun);
        self.stays = self.is_draining;
        if !self.is_draining {
            self.patience.stop();
        }
        self.signal.clone_from(&drain);
        self.drain = drain.map(waiting);
    }
}

/// Completes when the drain begins, with the time at which it ends.
pub(super) fn waiting(mut drain: Drain) -> Pin<Box<dyn Future<Output = Instant> + Send>> {
    Box::pin(async move { drain.begun().await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_agreed_comes_back_and_nothing_else_does() {
        for framing in [None, Some(Framing::Chunked), Some(Framing::Legacy)] {
            for is_told in [false, true] {
                let agreed = Agreed {
                    framing,
                    is_told,
                    features: Features::ALL,
                };
                assert_eq!(Agreed::decode(&agreed.encode()), Some(agreed));
            }
        }
        let good = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Agreed::decode(&good).is_some());
        for length in 0..good.len() {
            assert_eq!(Agreed::decode(&good[..length]), None);
        }
        for (at, value) in [(0, 2), (1, 3), (2, 2)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Agreed::decode(&bad), None);
        }
    }
}
