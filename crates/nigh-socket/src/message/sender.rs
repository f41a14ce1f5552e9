//! Who wrote one message, as the kernel vouches: `SCM_CREDENTIALS` and `SCM_PIDFD`.
//!
//! Trap: these are *real* ids, where `SO_PEERCRED` has effective ones. And a message that was sent before the receiver
//! asked for credentials has the overflow ids and pid 0: so ask before `listen` or `bind`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::fact::{Fact, Source, Why};
use crate::peer::Overflow;
use crate::process::Process;
use crate::sys::opt::Credentials;

/// The process that wrote a message.
///
/// On a connection that another process has inherited it can be another one from message to message, and other than the
/// connection's [`Peer`](crate::Peer). A privileged sender may name any ids and pid it likes.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Apart, so that a message without a sender is not the larger for it.
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Facts {
    uid: Fact<u32>,
    gid: Fact<u32>,
    pid: Fact<u32>,
    process: Fact<Process>,
}

impl Sender {
    #[inline]
    pub(crate) fn new(
        credentials: Option<Credentials>,
        process: Option<Result<OwnedFd, Errno>>,
    ) -> Option<Self> {
        if credentials.is_none() && process.is_none() {
            return None;
        }
        let overflow = Overflow::get();
        let process = match process {
            Some(answer) => Fact::from_answer(Source::MessagePidfd, answer.map(Process::new)),
            None => Fact::unknown(Source::MessagePidfd, Why::Unsupported),
        };
        let source = Source::MessageCredentials;
        let known = |value: Option<u32>| match value {
            Some(value) => Fact::known(value, source),
            None => Fact::unknown(source, Why::NotGiven),
        };
        let id =
            |id: Option<u32>, overflow| known(id.filter(|id| *id != u32::MAX && *id != overflow));
        let pid = credentials.and_then(|given| u32::try_from(given.pid).ok());
        let facts = Facts {
            uid: id(credentials.map(|given| given.uid), overflow.uid),
            gid: id(credentials.map(|given| given.gid), overflow.gid),
            pid: known(pid.filter(|pid| *pid != 0)),
            process,
        };
        Some(Self {
            facts: Arc::new(facts),
        })
    }

    /// The real user id.
    #[must_use]
    pub fn uid(&self) -> &Fact<u32> {
        &self.facts.uid
    }

    /// The real group id.
    #[must_use]
    pub fn gid(&self) -> &Fact<u32> {
        &self.facts.gid
    }

    /// The process id, for display only: the number may belong to another process by now.
    #[must_use]
    pub fn pid(&self) -> &Fact<u32> {
        &self.facts.pid
    }

    /// The process itself, through its pidfd.
    #[must_use]
    pub fn process(&self) -> &Fact<Process> {
        &self.facts.process
    }
}
