//! The predecessor as its successor sees it while it drains: idle connections come from it, until it ends.

use std::os::fd::OwnedFd;

use super::error::{HandoverError, Step};
use super::leash::{Leash, Teller, unexpected};
use super::message::Message;
use crate::peer::Peer;

/// Whoever served before.
#[derive(Debug)]
pub struct Predecessor {
    leash: Leash,
}

/// An idle connection on its way: what it is, and how far its protocol had come.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) id: u32,
    /// The number its listener had in the offer.
    pub(crate) listener: u16,
    pub(crate) socket: OwnedFd,
    pub(crate) state: Vec<u8>,
}

impl Predecessor {
    pub(crate) fn new(leash: Leash) -> Self {
        Self { leash }
    }

    /// Who it is, as the kernel recorded it.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.leash.peer()
    }

    /// The next connection from it; `None` when it has ended.
    ///
    /// Cancel safe: dropped before it is ready, nothing was received.
    ///
    /// # Errors
    /// `Refused` when it takes the office back, which it does after it has waited too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Moving>, HandoverError> {
        let (id, listener, state, socket) = match self.leash.next(Step::Drain).await {
            Ok((
                Message::Connection {
                    id,
                    listener,
                    state,
                },
                Some(socket),
            )) => (id, listener, state, socket),
            Ok((message, fd)) => {
                return Err(unexpected(Step::Drain, &message, fd.into_iter().count()));
            }
            Err(HandoverError::Left(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Moving {
            id,
            listener,
            socket,
            state,
        }))
    }

    /// Tells it whether the connection is ours now.
    pub(crate) async fn answer(&self, id: u32, is_ours: bool) -> Result<(), HandoverError> {
        let message = match is_ours {
            true => Message::Moved { id },
            false => Message::Kept { id },
        };
        self.leash.send(Step::Drain, &message, None).await
    }

    /// Waits until it has ended; connections that it offers meanwhile stay its own.
    ///
    /// # Errors
    /// See [`HandoverError`].
    pub async fn ended(&mut self) -> Result<(), HandoverError> {
        while let Some(moving) = self.next().await? {
            self.answer(moving.id, false).await?;
        }
        Ok(())
    }

    /// Says, when it is dropped, that this process ends in order: the predecessor, if it still drains, shall not serve
    /// again then. Without it the end of this process is a crash to the predecessor.
    #[must_use]
    pub fn farewell(&self) -> Farewell {
        Farewell {
            teller: self.leash.teller(),
        }
    }
}

/// See [`Predecessor::farewell`].
#[derive(Debug)]
pub struct Farewell {
    teller: Teller,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Err(error) = self.teller.tell(&Message::Left) {
            tracing::debug!(%error, "the predecessor is gone already");
        }
    }
}
