//! Why `nigh run` did not start, or cannot say how it is.

use std::io;

use nigh_socket::spawn::SpawnError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// More sockets than descriptors can be passed.
    #[error("at most 64 sockets can be held, not {0}")]
    TooMany(usize),
    /// The command was not started at all.
    #[error("start {program}: {message}")]
    Command {
        /// The program.
        program: String,
        /// What the system said.
        message: String,
    },
    /// The step before the command was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The step before the command has lost its parent.
    #[error("this step belongs to `nigh run`, which has ended")]
    Orphan,
    /// A socket for the command, or to hear it, could not be made.
    #[error("no descriptor for the command")]
    Descriptor(#[source] io::Error),
    /// What answers is no supervisor.
    #[error("what answers at {address} is no `nigh run`")]
    Nonsense {
        /// Where.
        address: String,
    },
    /// Nobody of this user runs one.
    #[error("no `nigh run` of this user is running")]
    Nobody,
}

impl RunError {
    /// 2 for what was asked wrongly, 3 for nobody there, 1 for the rest.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::TooMany(_) => 2,
            Self::Nobody | Self::Nonsense { .. } => 3,
            _ => 1,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Command { .. } => Some("give a path, or see what PATH leads to"),
            Self::Spawn(error) => error.hint(),
            Self::Orphan => Some("use `nigh run -- COMMAND`"),
            Self::Nobody => Some(
                "one in another network namespace is asked with --control ADDR and --status ADDR",
            ),
            _ => None,
        }
    }
}
