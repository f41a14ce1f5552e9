//! Which calls reach a handler: module, method and policy are decided before anybody looks at the body.

use std::sync::Arc;

use nigh_socket::{Counters, Guard, Journal, Peer};
use tokio::sync::Semaphore;

use super::handler::Failure;
use super::registry::{Method, Modules};
use super::share::Shares;
use crate::limits::Limits;
use crate::wire::{Call, Detector, Features, Framing, Reason, Status};

/// What all connections of one server share.
pub(crate) struct Shared {
    pub(crate) modules: Modules,
    /// By module and method.
    pub(crate) methods: Guard<(i32, i32)>,
    /// By module, for all its methods.
    pub(crate) whole_modules: Guard<i32>,
    pub(crate) limits: Limits,
    /// What each user has at work.
    pub(crate) shares: Shares,
    /// The framing that callers must speak, or what finds out.
    pub(crate) framing: Result<Framing, Detector>,
    /// What callers may agree on.
    pub(crate) features: Features,
    /// How many connections may still have a thread.
    pub(crate) threads: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) journal: Option<Arc<Journal>>,
}

impl Shared {
    /// The method that `call` reaches. drpc §7.1, §7.2
    pub(crate) fn find(&self, peer: &Peer, call: &Call) -> Result<&Method, Failure> {
        let Call { module, method, .. } = *call;
        let descriptors = call.extensions.descriptors;
        let found = self.modules.get(module).ok_or_else(|| {
            let text = format!("no module {module} here");
            Failure::with_status(Status::UnknownModule, text)
        })?;
        self.check(peer, module, method)?;
        if descriptors > 0 && !found.exchanges_descriptors() {
            return Err(Failure::new(format!(
                "module {module} takes no descriptors"
            )));
        }
        found.find(method).ok_or_else(|| {
            let text = format!("module {module} has no method {method}");
            Failure::with_status(Status::UnknownMethod, text)
        })
    }

    fn check(&self, peer: &Peer, module: i32, method: i32) -> Result<(), Failure> {
        let by_module = self.whole_modules.check(peer, &module);
        let verdict = by_module.and_then(|()| self.methods.check(peer, &(module, method)));
        verdict.map_err(|verdict| {
            self.counters.calls_refused_by_guard();
            self.warn(format_args!(
                "refused a call of module {module} method {method} from {peer}: {verdict}"
            ));
            Failure::because(Reason::Denied)
        })
    }

    /// Logs what a caller did wrong, at the server's rate.
    pub(crate) fn warn(&self, line: std::fmt::Arguments<'_>) {
        match &self.journal {
            Some(journal) => journal.warn(line),
            // Without a bound on the rate a caller must not fill the log.
            None => tracing::debug!("{line}"),
        }
    }
}
