//! Why a method or its types are not known, and what would help.

use std::path::PathBuf;

use tonic::Status;

use super::super::near::question;
use super::super::status::describe;

/// A method, or the types of its messages, could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The server describes no service.
    #[error("the server has no reflection service, so its methods are not known")]
    NoReflection,
    /// The server refused to describe itself, or the connection failed.
    #[error("asking the server to describe itself: {}", describe(.0))]
    Reflection(Box<Status>),
    /// The server's answer is not what the reflection protocol allows.
    #[error("the server's description of `{symbol}` {problem}")]
    Malformed {
        /// What was asked for.
        symbol: String,
        /// What is wrong with the answer.
        problem: Problem,
    },
    /// The server lists a service that it does not describe.
    #[error("`{service}` is offered but not described")]
    NotDescribed {
        /// Full name of the service.
        service: String,
    },
    /// Descriptors that do not fit together.
    #[error("descriptors do not fit together{}", missing_note(.missing))]
    Inconsistent {
        /// Files that something imports and nobody has.
        missing: Vec<String>,
        /// What the descriptor pool says.
        #[source]
        source: prost_reflect::DescriptorError,
    },
    /// A `.proto` file does not compile.
    #[error("{}", compile_note(.0))]
    Proto(Box<protox::Error>),
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file is not a descriptor set.
    #[error("{} is not a file descriptor set", .path.display())]
    NotASet {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: prost_reflect::DescriptorError,
    },
    /// No such service.
    #[error("no service `{service}`")]
    NoService {
        /// The name asked for.
        service: String,
        /// Names like it.
        near: Vec<String>,
        /// All names on offer.
        offered: Vec<String>,
    },
    /// No such method.
    #[error("service `{service}` has no method `{method}`")]
    NoMethod {
        /// Full name of the service.
        service: String,
        /// The name asked for.
        method: String,
        /// Names like it.
        near: Vec<String>,
        /// All names on offer.
        offered: Vec<String>,
    },
}

/// How a reflection server broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Another kind of answer than the one asked for.
    #[error("is another kind of answer than the one asked for")]
    WrongAnswer,
    /// The stream ended.
    #[error("never came: the stream ended")]
    Ended,
    /// Bytes that are no descriptor.
    #[error("has a file that cannot be decoded")]
    Undecodable,
    /// More files than anyone needs.
    #[error("has more than {0} files")]
    TooManyFiles(usize),
    /// More bytes than anyone needs.
    #[error("has more than {0} bytes")]
    TooManyBytes(usize),
    /// The server says no.
    #[error("is refused: {message} (code {code})")]
    Refused {
        /// gRPC status code.
        code: i32,
        /// The server's words.
        message: String,
    },
}

impl SchemaError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoReflection => {
                Some("describe the service with --proto FILE or --descriptor-set FILE".into())
            }
            Self::Malformed { .. } | Self::NotDescribed { .. } | Self::Inconsistent { .. } => Some(
                "describe the service with --proto FILE or --descriptor-set FILE instead".into(),
            ),
            Self::NoService { near, offered, .. } => {
                question(near).or_else(|| list("services", offered))
            }
            Self::NoMethod { near, offered, .. } => {
                question(near).or_else(|| list("methods", offered))
            }
            Self::Proto(error) if error.is_file_not_found() => {
                Some("name the folder that imports are relative to with -I DIR".into())
            }
            Self::NotASet { .. } => {
                Some("write one with `protoc --include_imports --descriptor_set_out=FILE`".into())
            }
            Self::Reflection(_) | Self::Proto(_) | Self::File { .. } => None,
        }
    }
}

fn list(what: &str, names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| format!("{what} on offer: {}", names.join(", ")))
}

fn missing_note(missing: &[String]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    format!(" and nobody has {}", missing.join(", "))
}

/// protox's `Debug` is its message with the place in the file; its `Display` lacks the place.
fn compile_note(error: &protox::Error) -> String {
    let detail = format!("{error:?}");
    detail.trim().to_owned()
}
