//! How a command fails: message, hint, exit code.

use std::io;
use std::path::PathBuf;

use super::config::ConfigError;
use crate::eval::{EvalError, Shadowed};
use crate::model::LoadError;
use crate::source::{AddressError, StartError};

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A source cannot be followed.
    #[error(transparent)]
    Source(#[from] AddressError),
    /// A source cannot be followed on this machine.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no source; the text is flagd's.
    #[error("no sync implementation set")]
    NoSource,
    /// There is nowhere to listen.
    #[error("there is nowhere to listen")]
    NoListener,
    /// The build's rule engine is not usable.
    #[error(transparent)]
    Shadowed(#[from] Shadowed),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] nigh::BindError),
    /// The service manager cannot be told.
    #[error(transparent)]
    Notify(#[from] nigh::NotifyError),
    /// The sockets were not handed over.
    #[error(transparent)]
    Handover(Box<nigh::HandoverError>),
    /// The certificate or its key is unusable.
    #[error(transparent)]
    Tls(#[from] nigh::TlsError),
    /// The server did not start, or ended on its own.
    #[error(transparent)]
    Serve(#[from] nigh::ServerError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file's flags cannot be used.
    #[error("{}: {error}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What and where.
        error: LoadError,
    },
    /// A file's flags can be used, and something is odd.
    #[error("{} has {count} warnings", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A context is no JSON object.
    #[error("the context is no JSON object")]
    Context(#[source] Option<serde_json::Error>),
    /// A flag has no value.
    #[error("flag {key:?}: {}", crate::source::describe(error))]
    Eval {
        /// The flag.
        key: String,
        /// Why.
        error: EvalError,
    },
    /// Anything with the operating system.
    #[error("the operating system refuses")]
    Io(#[source] io::Error),
}

impl From<nigh::HandoverError> for Failure {
    fn from(error: nigh::HandoverError) -> Self {
        Self::Handover(Box::new(error))
    }
}

impl Failure {
    /// 2 for what was asked wrongly, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Source(_)
            | Self::NoSource
            | Self::NoListener
            | Self::Context(_) => 2,
            _ => 1,
        }
    }

    /// Whether the reader of our output went away, which is no news to anybody.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Source(error) => error.hint(),
            Self::NoSource => Some("name one with --uri file:PATH"),
            Self::NoListener => Some(
                "name a socket with --socket-path PATH or --listen ADDR, or flagd's ports with --flagd-ports",
            ),
            Self::Shadowed(error) => error.hint(),
            Self::Bind(error) if matches!(error.fault(), nigh::BindFault::InUse) => {
                Some("stop it, or take the socket over from it with --replace")
            }
            Self::Bind(error) => error.hint(),
            Self::Handover(error) => error.hint(),
            Self::Serve(error) => error.hint(),
            Self::Notify(error) => error.hint(),
            Self::Load { error, .. } => error.hint(),
            Self::Context(_) => Some(r#"write it like {"targetingKey": "user-1"}"#),
            _ => None,
        }
    }
}
