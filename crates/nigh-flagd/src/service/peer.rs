//! What the kernel vouches for about a caller, as attributes of evaluations.

use std::str::FromStr;

use nigh::Peer;
use serde_json::Value;

/// A fact about the process at the other end of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerFact {
    /// Its user id, when it connected.
    Uid,
    /// Its group id, when it connected.
    Gid,
    /// The file that it runs.
    Executable,
    /// Its systemd unit.
    Unit,
}

/// A name that is no fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is none of uid, gid, executable, unit")]
pub struct UnknownFact {
    /// The name.
    pub name: String,
}

impl FromStr for PeerFact {
    type Err = UnknownFact;

    fn from_str(name: &str) -> Result<Self, UnknownFact> {
        Ok(match name {
            "uid" => Self::Uid,
            "gid" => Self::Gid,
            "executable" => Self::Executable,
            "unit" => Self::Unit,
            _ => {
                let name = name.to_owned();
                return Err(UnknownFact { name });
            }
        })
    }
}

impl PeerFact {
    /// The fact about `peer`; null where it is not known, so that nobody can claim it instead.
    pub(super) fn of(self, peer: Option<&Peer>) -> Value {
        let Some(local) = peer.and_then(Peer::as_local) else {
            return Value::Null;
        };
        let process = || local.process().value();
        let found = match self {
            Self::Uid => local.uid().value().map(|uid| Value::from(*uid)),
            Self::Gid => local.gid().value().map(|gid| Value::from(*gid)),
            Self::Executable => process()
                .and_then(|process| process.executable().ok())
                .map(|path| Value::from(path.to_string_lossy())),
            Self::Unit => process()
                .and_then(|process| process.unit().ok().flatten())
                .map(|unit| Value::from(unit.to_string())),
        };
        found.unwrap_or(Value::Null)
    }
}
