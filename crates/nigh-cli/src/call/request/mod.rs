//! Requests from JSON: an argument, a file or standard input, one message or many.

mod fit;
mod input;
mod json;
mod split;

pub use fit::Misfit;
pub use input::{Input, Requests};
pub use json::JsonError;

use std::path::PathBuf;

/// Why the requests of a call cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The file, or standard input, cannot be read.
    #[error("cannot read {from}")]
    Read {
        /// Where from.
        from: Input,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A message is not JSON, or does not fit its type.
    #[error("message {} of {from}: {source}", .index + 1)]
    Json {
        /// Where from.
        from: Input,
        /// Position in the input, from 0.
        index: u64,
        /// What is wrong.
        #[source]
        source: JsonError,
    },
    /// One message is longer than the limit.
    #[error("message {} of {from} is longer than {limit} bytes", .index + 1)]
    TooLong {
        /// Where from.
        from: Input,
        /// Position in the input, from 0.
        index: u64,
        /// Most bytes of one message's text.
        limit: usize,
    },
    /// A method that takes one message got another number of them.
    #[error("{method} takes one message, and {from} has {got}")]
    NotOne {
        /// Name of the method.
        method: String,
        /// Where from.
        from: Input,
        /// How many there are.
        got: Count,
    },
}

/// A number of messages that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// None at all.
    None,
    /// Two or more.
    Several,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Several => "several",
        })
    }
}

impl RequestError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Json { source, .. } => source.hint(),
            Self::NotOne {
                got: Count::None, ..
            } => Some("write {} for an empty message".into()),
            Self::Read { .. } | Self::TooLong { .. } | Self::NotOne { .. } => None,
        }
    }
}

/// Where JSON comes from, by the form of the argument.
impl From<Option<String>> for Input {
    fn from(argument: Option<String>) -> Self {
        match argument {
            None => Self::Nothing,
            Some(text) if text == "-" => Self::Stdin,
            Some(text) => match text.strip_prefix('@') {
                Some(path) => Self::File(PathBuf::from(path)),
                None => Self::Argument(text),
            },
        }
    }
}
