//! How a command fails: the message, the hint and the exit code.

use std::error::Error;
use std::io;

use nigh::{ChannelError, ServerError};
use nigh_drpc::CallError;
use nigh_drpc::wire::{Status as DrpcStatus, Violation};
use nigh_socket::handover::HandoverError;
use nigh_socket::introspect::IntrospectError;
use nigh_socket::{AcceptError, BindError, BindFault, ConnectError, ConnectFault, SocketKind};
use tonic::{Code, Status};

use crate::bench::BenchError;
use crate::call::ShowError;
use crate::call::exchange::ExchangeError;
use crate::call::fields::IndexFieldError;
use crate::call::metadata::MetadataError;
use crate::call::reply::ReplyError;
use crate::call::request::RequestError;
use crate::call::schema::SchemaError;
use crate::call::status::describe;
use crate::commands::call::FileError;
use crate::commands::demo::DemoError;
use crate::commands::drpc::DrpcUsage;
use crate::commands::message::MessageError;
use crate::commands::peers::NobodyThere;
use crate::commands::received::ReceivedError;
use crate::commands::serve::{NotServed, PublishCount};
use crate::diag::OpenRootError;
use crate::output::visible;
use crate::run::RunError;

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A `--metadata` argument cannot be sent.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The requests of a call cannot be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A file that a request is to mention cannot be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// A field cannot hold an index.
    #[error(transparent)]
    IndexField(#[from] IndexFieldError),
    /// A descriptor cannot be attached.
    #[error(transparent)]
    Attach(#[from] nigh::AttachError),
    /// A descriptor that came cannot be saved.
    #[error(transparent)]
    Received(#[from] ReceivedError),
    /// The directory for `OpenFile` cannot be used.
    #[error(transparent)]
    OpenRoot(#[from] OpenRootError),
    /// The method or its types cannot be found.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// There is no gRPC server at the address.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Nobody answers at the address.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A server did not start, or ended on its own.
    #[error(transparent)]
    Serve(#[from] ServerError),
    /// The service manager cannot be told.
    #[error(transparent)]
    Notify(#[from] nigh::NotifyError),
    /// Listeners were not handed over.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The control socket of this server is broken.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// A command cannot be run.
    #[error("cannot run {program}")]
    NotRun {
        /// The command.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A socket is not kept by the service manager.
    #[error(transparent)]
    Keep(#[from] nigh_socket::systemd::KeepError),
    /// A command was not run, or does not say how it is.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A listener's role is not served.
    #[error(transparent)]
    NotServed(#[from] NotServed),
    /// Records were not exchanged.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Nobody serves the address whose connections were asked for.
    #[error(transparent)]
    NobodyThere(#[from] NobodyThere),
    /// There are more or fewer files than addresses.
    #[error(transparent)]
    PublishCount(#[from] PublishCount),
    /// The arguments name no dRPC call.
    #[error(transparent)]
    DrpcUsage(#[from] DrpcUsage),
    /// A dRPC call gave no answer, or a failure.
    #[error(transparent)]
    Drpc(#[from] CallError),
    /// The dRPC part of a server did not start.
    #[error(transparent)]
    DrpcServe(#[from] nigh_drpc::ServerError),
    /// Two dRPC modules or methods have the same number.
    #[error(transparent)]
    Register(#[from] nigh_drpc::RegisterError),
    /// The flag daemon, or one of its commands, did not do what was asked.
    #[error(transparent)]
    Flagd(#[from] nigh_flagd::cli::Failure),
    /// A measurement was not made, or calls of it failed.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The demonstration could not be set up.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The server answered with a failure.
    #[error("{}", describe(.0))]
    Status(Box<Status>),
    /// The machine's sockets cannot be listed.
    #[error(transparent)]
    Introspect(#[from] IntrospectError),
    /// A reply cannot be put into JSON.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// Standard output is gone or full.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Request(error) => Self::Request(error),
            ExchangeError::Show(error) => error.into(),
            ExchangeError::Attach(error) => Self::Attach(error),
        }
    }
}

impl From<ShowError> for Failure {
    fn from(error: ShowError) -> Self {
        match error {
            ShowError::Write(error) => Self::Output(error),
            ShowError::Reply(error) => Self::Reply(error),
            ShowError::Received(error) => Self::Received(error),
        }
    }
}

impl Failure {
    /// The exit code: 1 in general, 2 usage, 3 cannot connect, 16 + gRPC status code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Metadata(_)
            | Self::Request(_)
            | Self::NotServed(_)
            | Self::PublishCount(_)
            | Self::DrpcUsage(_)
            | Self::File(_)
            | Self::IndexField(_)
            | Self::OpenRoot(_) => 2,
            Self::Flagd(failure) => failure.exit_code(),
            Self::Bench(error) => error.exit_code(),
            Self::Run(error) => error.exit_code(),
            Self::Drpc(CallError::Connect(_)) => 3,
            Self::Drpc(CallError::Status { status, .. }) => drpc_exit_code(*status),
            Self::Schema(SchemaError::Reflection(status)) | Self::Status(status) => {
                status_exit_code(status.code())
            }
            Self::Schema(_) => 2,
            Self::Message(error) => error.exit_code(),
            Self::Channel(_)
            | Self::Connect(_)
            | Self::NobodyThere(_)
            | Self::Handover(HandoverError::Connect(_)) => 3,
            _ => 1,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Metadata(error) => error.hint().map(Into::into),
            Self::File(error) => error.hint().map(Into::into),
            Self::IndexField(error) => error.hint(),
            Self::Attach(_) | Self::Received(_) | Self::OpenRoot(_) => None,
            Self::Request(error) => error.hint(),
            Self::Schema(SchemaError::Reflection(status)) | Self::Status(status) => {
                status_hint(status.code()).map(Into::into)
            }
            Self::Schema(error) => error.hint(),
            Self::Channel(ChannelError::Connect(error)) => connect_hint(error).map(Into::into),
            Self::Channel(error) => error.hint(),
            Self::Connect(error) => connect_hint(error).map(Into::into),
            Self::DrpcUsage(error) => error.hint(),
            Self::Drpc(error) => drpc_hint(error).map(Into::into),
            Self::DrpcServe(error) => error.hint().map(Into::into),
            Self::Flagd(failure) => failure.hint().map(Into::into),
            Self::Bind(error) if matches!(error.fault(), BindFault::InUse) => {
                Some("stop it, or take the address over from it with --replace".into())
            }
            Self::Bind(error) => error.hint().map(Into::into),
            Self::Serve(error) => error.hint().map(Into::into),
            Self::Notify(error) => error.hint().map(Into::into),
            Self::Run(error) => error.hint().map(Into::into),
            Self::Keep(error) => error.hint().map(Into::into),
            Self::NotServed(_)
            | Self::PublishCount(_)
            | Self::Demo(_)
            | Self::Register(_)
            | Self::Bench(_) => None,
            Self::Message(error) => error.hint().map(Into::into),
            Self::NobodyThere(_) => Some("`nigh doctor ADDR` says what stands there".into()),
            Self::Handover(error) => error.hint().map(Into::into),
            Self::Accept(_) | Self::NotRun { .. } => None,
            Self::Introspect(error) => error.hint().map(Into::into),
            Self::Reply(error) => error.hint().map(Into::into),
            Self::Output(_) => None,
        }
    }

    /// Whether the reader of our output went away, which is no news to anybody.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Flagd(failure) => failure.is_silent(),
            _ => false,
        }
    }

    /// The message with its causes, on one line.
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        visible(&text)
    }
}

/// Known dRPC statuses in the range of gRPC's, all others at its end.
fn drpc_exit_code(status: DrpcStatus) -> u8 {
    match u8::try_from(i32::from(status)) {
        Ok(number @ 1..=7) => 16 + number,
        _ => 31,
    }
}

/// What to do, where a server of the other kind is there.
fn connect_hint(error: &ConnectError) -> Option<&'static str> {
    match error.fault() {
        ConnectFault::WrongKind(SocketKind::Stream) => Some(PACKETS_THERE),
        ConnectFault::WrongKind(SocketKind::Seqpacket) => {
            Some("it is a stream socket, as gRPC servers have: use `nigh call`")
        }
        _ => error.hint(),
    }
}

const PACKETS_THERE: &str = "if it is a packet socket, as dRPC servers have: use `nigh drpc`; `nigh send` and `nigh recv` take seqpacket:ADDR and dgram:ADDR; `nigh ls` shows its type";

fn drpc_hint(error: &CallError) -> Option<&'static str> {
    match error {
        CallError::Connect(error) => connect_hint(error),
        CallError::PeerMisbehaved(Violation::LegacyPeer) => {
            Some("it is a DAOS of 2.6 or older: say --framing legacy, or --framing probe")
        }
        CallError::PeerMisbehaved(_) | CallError::Transport(_) => {
            Some("the server ended, refuses you, or speaks the other framing: try --framing probe")
        }
        CallError::Deadline => Some("give it more time with --timeout"),
        other => other.hint(),
    }
}

fn status_exit_code(code: Code) -> u8 {
    // Codes run from 0 to 16.
    16 + u8::try_from(i32::from(code)).unwrap_or(2)
}

fn status_hint(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Unimplemented => "`nigh call ADDR` lists what the server offers",
        Code::PermissionDenied => "`nigh who ADDR` shows who the server takes you for, if it tells",
        Code::DeadlineExceeded => "give it more time with --deadline",
        Code::OutOfRange | Code::ResourceExhausted => {
            "if a message is too large: --max-reply sets the limit on this side"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let status = |code| Failure::Status(Box::new(Status::new(code, "")));
        assert_eq!(status(Code::Cancelled).exit_code(), 17);
        assert_eq!(status(Code::Unauthenticated).exit_code(), 32);
        let refused = SchemaError::Reflection(Box::new(Status::permission_denied("no")));
        assert_eq!(Failure::from(refused).exit_code(), 23);
        assert_eq!(Failure::from(SchemaError::NoReflection).exit_code(), 2);
        assert_eq!(
            Failure::from(MetadataError::NoColon("x".into())).exit_code(),
            2
        );
        assert_eq!(Failure::from(io::Error::other("full")).exit_code(), 1);
    }

    #[test]
    fn messages_are_one_line_with_their_causes() {
        let failure = Failure::from(io::Error::other("disk\nfull"));
        assert_eq!(failure.message(), "cannot write the output: disk\\nfull");
        let status = Status::new(Code::NotFound, "a\x1bb");
        let failure = Failure::Status(Box::new(status));
        assert_eq!(failure.message(), "NOT_FOUND: a\\u{1b}b");
    }
}
