//! What comes in over a connection: which call it belongs to, whether it may stay, and what belongs to none.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use super::{Entry, Link, Peering, Side};
use crate::fd::arrivals::Arrival;
use crate::fd::call::{Call, Came};
use crate::fd::closer;
use crate::fd::error::Loss;
use crate::fd::frame::{Fds, Frame, Malformed};

/// Descriptors that a frame of the nigh wire announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    pub(crate) stream: u32,
    pub(crate) count: u16,
    /// Index of the first of them.
    pub(crate) first: u32,
    /// Why they did not leave; 0 if they did.
    pub(crate) loss: u8,
    /// Offset of the frame in the stream.
    pub(crate) at: u64,
}

impl Link {
    /// The socket received descriptors.
    pub(in crate::fd) fn arrived(&self, arrival: Arrival) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.push(arrival);
        let extra = arrivals.surplus();
        drop(arrivals);
        if let Some(extra) = extra {
            self.stray(extra);
        }
    }

    /// The reader found one of our frames.
    pub(in crate::fd) fn found(
        self: &Arc<Self>,
        at: u64,
        frame: Result<Frame, Malformed>,
    ) -> Result<(), Malformed> {
        let peering = self.peering();
        let known = matches!(peering, Peering::Nigh(_));
        match frame {
            // The first, in its place; any other is ignored [3.2, 3.5].
            Ok(Frame::Hello(hello)) if peering == Peering::Unknown => self.greeted(hello),
            Ok(Frame::Fds(fds)) if known => {
                self.deliver(fds, at)?;
            }
            Ok(Frame::Done(id)) if known && self.side == Side::Server => self.done(id),
            Err(malformed) if known => return Err(malformed),
            // Before a HELLO such a frame means nothing here.
            _ => {}
        }
        Ok(())
    }

    /// A frame of the nigh wire announced descriptors; the caller looks after calls that are over already.
    pub(crate) fn announced(self: &Arc<Self>, announced: Announced) {
        let fds = Fds {
            call: announced.stream.into(),
            first: announced.first,
            count: announced.count,
            loss: announced.loss,
        };
        if let Err(malformed) = self.deliver(fds, announced.at) {
            // There is one call at most whose HEADERS are to come [13.5].
            tracing::debug!("descriptors were closed: {malformed}");
        }
    }

    /// Closes what was announced for a call that has ended.
    pub(crate) fn discard(&self, at: u64) {
        closer::drop_off(self.arrival(at));
    }

    /// Whether descriptors came for a call of which nothing else has.
    pub(crate) fn is_ahead(&self, stream: u32) -> bool {
        let state = self.state();
        let entry = state.calls.get(&u64::from(stream));
        entry.is_some_and(|entry| !entry.claimed)
    }

    /// What came with the frame at this offset.
    fn arrival(&self, at: u64) -> Option<Arrival> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.at(at)
    }

    fn deliver(self: &Arc<Self>, fds: Fds, at: u64) -> Result<(), Malformed> {
        // A frame without its descriptors takes none of another's that were received with it.
        let arrival = if fds.loss == 0 {
            self.arrival(at)
        } else {
            None
        };
        let Some(call) = self.call_of(fds.call)? else {
            closer::drop_off(arrival);
            return Ok(());
        };
        match self.check(&call, fds, arrival) {
            Ok(came) => {
                let late = call.arrived(fds.first, came);
                if !late.is_empty() {
                    closer::drop_off(late);
                }
            }
            Err(loss) => call.lose(loss),
        }
        Ok(())
    }

    fn check(&self, call: &Call, fds: Fds, arrival: Option<Arrival>) -> Result<Vec<Came>, Loss> {
        if fds.loss != 0 {
            return Err(Loss::of_code(fds.loss));
        }
        let (came, truncated) = arrival.map_or((Vec::new(), false), |arrival| {
            (arrival.fds, arrival.truncated)
        });
        let announced = usize::from(fds.count);
        let limit = self.terms.limits.per_message();
        let fits = if truncated {
            Err(Loss::Truncated)
        } else if announced != came.len() {
            Err(Loss::Count {
                announced,
                came: came.len(),
            })
        } else if announced > usize::from(limit) {
            Err(Loss::PerMessage {
                limit: limit.into(),
            })
        } else if !self.terms.accepts {
            Err(Loss::NotAccepted)
        } else {
            call.room(fds.first, announced)
        };
        if let Err(loss) = fits {
            closer::drop_off(came);
            return Err(loss);
        }
        let mut charged = Vec::with_capacity(came.len());
        let mut came = came.into_iter();
        for fd in came.by_ref() {
            match self.account.charge() {
                Ok(charge) => charged.push(Came {
                    fd,
                    _charge: charge,
                }),
                Err(loss) => {
                    let rest: Vec<OwnedFd> = std::iter::once(fd).chain(came).collect();
                    closer::drop_off((charged, rest));
                    return Err(loss);
                }
            }
        }
        Ok(charged)
    }

    /// The call that descriptors came for; a server keeps them until its HEADERS come.
    fn call_of(self: &Arc<Self>, id: u64) -> Result<Option<Arc<Call>>, Malformed> {
        let mut state = self.state();
        if let Some(entry) = state.calls.get(&id) {
            return Ok(Some(Arc::clone(&entry.call)));
        }
        if self.side == Side::Client || state.closed {
            return Ok(None);
        }
        // An honest client has no more calls with descriptors on their way than it was told [5.4].
        let ahead_max = (self.terms.calls_max as usize).saturating_mul(2);
        if state.unclaimed > ahead_max {
            return Err(Malformed::TooManyCalls);
        }
        state.unclaimed += 1;
        let call = Call::over(Arc::clone(self), id, self.terms.limits.per_call_max);
        state.calls.insert(
            id,
            Entry {
                call: Arc::clone(&call),
                claimed: false,
                sent: false,
            },
        );
        Ok(Some(call))
    }

    /// Closes what came for a call whose HEADERS did not [13.5].
    pub(crate) fn forget(&self, stream: u32) {
        self.done(stream.into());
    }

    fn done(&self, id: u64) {
        let mut state = self.state();
        if state.calls.get(&id).is_some_and(|entry| !entry.claimed) {
            state.unclaimed -= 1;
            let entry = state.calls.remove(&id);
            drop(state);
            if let Some(entry) = entry {
                entry.call.end_receiving();
            }
        }
    }

    /// What came before this offset and belongs to no frame of ours.
    pub(crate) fn settle(&self, settled: u64) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let strays = arrivals.strays(settled);
        drop(arrivals);
        for stray in strays {
            self.stray(stray);
        }
    }

    /// Descriptors outside any frame of ours: grpcfd's, or nobody's.
    pub(in crate::fd) fn stray(&self, stray: Arrival) {
        match self.inodes() {
            Some(table) => table.arrived(stray, &self.account),
            None => {
                tracing::debug!(
                    "closed {} descriptors that nobody takes here",
                    stray.fds.len()
                );
                closer::drop_off(stray);
            }
        }
    }
}
