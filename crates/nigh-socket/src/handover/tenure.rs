//! A process in office: it serves, and waits to be asked by a successor.

use std::sync::Arc;

use super::error::{HandoverError, Step};
use super::give::Request;
use super::leash::{Leash, Other, unexpected};
use super::message::{Message, RefusalReason, VERSION};
use super::options::HandoverOptions;
use super::predecessor::Predecessor;
use crate::accept::{AcceptError, Acceptor, Ledger};
use crate::address::Address;
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::listener::Listener;

/// In office: holds the control socket. Dropped, it gives that up, and with it the possibility to be succeeded.
#[derive(Debug)]
pub struct Tenure {
    control: Arc<Listener>,
    acceptor: Acceptor,
    predecessor: Option<Predecessor>,
    options: HandoverOptions,
}

impl Tenure {
    pub(super) fn new(
        control: Arc<Listener>,
        predecessor: Option<Predecessor>,
        options: HandoverOptions,
    ) -> Result<Self, HandoverError> {
        let ledger = Ledger::new(&Limits::default(), Arc::default());
        let acceptor =
            Acceptor::with(Arc::clone(&control), ledger).map_err(HandoverError::System)?;
        Ok(Self {
            control,
            acceptor,
            predecessor,
            options,
        })
    }

    /// Where a successor asks.
    #[must_use]
    pub fn control(&self) -> &Address {
        self.control.address()
    }

    /// The control socket is another process's.
    pub(crate) fn disown(&self) {
        self.control.lend_name();
    }

    /// Who served before, once: to wait for its end.
    pub fn take_predecessor(&mut self) -> Option<Predecessor> {
        self.predecessor.take()
    }

    /// Waits for a successor that is who it must be and speaks this protocol. Others are refused, which is logged.
    ///
    /// # Errors
    /// Only when the control socket is broken.
    ///
    /// # Cancel safety
    /// A successor that is just being greeted is let go.
    pub async fn request(&mut self) -> Result<Request, AcceptError> {
        loop {
            let incoming = self.acceptor.accept().await?;
            let peer = incoming.peer().to_string();
            match greet(incoming, &self.options).await {
                Ok(leash) => {
                    let (control, options) = (Arc::clone(&self.control), self.options.clone());
                    return Ok(Request::new(leash, control, options));
                }
                Err(error) => {
                    tracing::warn!("hand-over asked for by {peer}: {error}");
                }
            }
        }
    }
}

async fn greet(incoming: Incoming, options: &HandoverOptions) -> Result<Leash, HandoverError> {
    let (transport, peer) = incoming.into_parts();
    let Ok(socket) = transport.into_packet() else {
        return Err(HandoverError::Left(Step::Hello));
    };
    let mut leash = Leash::new(socket, peer, options, Other::Successor)?;
    let greeted = match leash.receive(Step::Hello, options.step_time).await {
        Ok((Message::Hello { version: VERSION }, _)) => Ok(()),
        Ok((Message::Hello { version }, _)) => Err(HandoverError::Version(version)),
        Ok((message, _)) => Err(unexpected(Step::Hello, &message, 0)),
        Err(error) => Err(error),
    };
    match greeted {
        Ok(()) => Ok(leash),
        Err(error) => {
            let reason = match error {
                HandoverError::Version(_) => RefusalReason::Version,
                _ => error.reason(),
            };
            leash.refuse(reason, &error.to_string());
            Err(error)
        }
    }
}
