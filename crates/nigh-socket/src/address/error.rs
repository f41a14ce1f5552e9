//! What is wrong with an address, where in its text, and what to write instead.

use std::convert::Infallible;
use std::fmt;

use super::{ABSTRACT_BYTES_MAX, HOST_BYTES_MAX, PATH_BYTES_MAX, Role};

/// How much of a refused text a message repeats, in characters: a message is one line.
const QUOTED_CHARACTERS_MAX: usize = 200;

/// An address that is none. Shows the text, what is wrong with it and, where that helps, at which character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    text: String,
    at: Option<usize>,
    fault: AddressFault,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressFault {
    /// Nothing was given.
    #[error("names nothing")]
    Empty,
    /// It does not begin with a scheme this library knows.
    #[error("begins with no known scheme")]
    UnknownScheme,
    /// `unix:` with nothing behind it, or an empty path.
    #[error("has no path")]
    NoPath,
    /// `unix://host/path`: a socket file is never on another host.
    #[error("names a host, but a socket file is always on this one")]
    PathWithHost,
    /// The path ends in `/`, `.` or `..`.
    #[error("ends with a directory, not with the name of a socket")]
    Directory,
    /// A NUL byte in a path, which the kernel cannot carry.
    #[error("has a NUL byte in its path")]
    Nul,
    /// More bytes than the kernel takes.
    #[error("has a path of {bytes} bytes, the limit is {PATH_BYTES_MAX}")]
    PathTooLong {
        /// How many it has, escapes decoded.
        bytes: usize,
    },
    /// `unix-abstract:` with nothing behind it.
    #[error("has no name")]
    NoName,
    /// More bytes than `sun_path` holds after its leading NUL.
    #[error("has an abstract name of {bytes} bytes, the limit is {ABSTRACT_BYTES_MAX}")]
    NameTooLong {
        /// How many it has, escapes decoded.
        bytes: usize,
    },
    /// A `%` without two hexadecimal digits behind it.
    #[error("has a \"%\" that is not followed by two hexadecimal digits")]
    BadEscape,
    /// Text behind `autobind:`.
    #[error("has text behind \"autobind:\", which takes none")]
    AutobindWithText,
    /// `fd:` with neither a number from 0 to 2147483647 nor a name.
    #[error("has neither a descriptor number from 0 to 2147483647 nor a name with a letter in it")]
    BadDescriptor,
    /// No host before the port.
    #[error("has no host")]
    NoHost,
    /// Neither a host name nor an IP address.
    #[error("has a host that is neither a name nor an IP address")]
    BadHost,
    /// An IPv6 address outside brackets: its last group would be taken for the port.
    #[error("has an IPv6 address without brackets")]
    UnbracketedIpv6,
    /// Longer than a host name can be.
    #[error("has a host of {bytes} bytes, the limit is {HOST_BYTES_MAX}")]
    HostTooLong {
        /// How many it has.
        bytes: usize,
    },
    /// No `:PORT` at the end.
    #[error("has no port")]
    NoPort,
    /// Not a number from 0 to 65535 (for `https:` from 1).
    #[error("has a port that is not a number up to 65535")]
    BadPort,
    /// `https://host:port/path`.
    #[error("has a path behind the port, which https: does not take")]
    PathBehindPort,
    /// `https:` without `//`.
    #[error("has no \"//\" behind \"https:\"")]
    NoSlashes,
    /// `https:` given to a listener.
    #[error("is for clients only: a server cannot listen on https:")]
    HttpsListener,
    /// `published:` given to a listener.
    #[error("is for clients only: a server publishes its address, it does not listen on a file")]
    PublishedListener,
    /// A packet role in front of `tcp:`.
    #[error("asks for packets ({}) over TCP, which carries a stream only", .role.prefix())]
    PacketsOverTcp {
        /// The role that was asked for.
        role: Role,
    },
}

impl AddressError {
    pub(super) fn new(text: &str, at: Option<usize>, fault: AddressFault) -> Self {
        Self {
            text: text.to_owned(),
            at,
            fault,
        }
    }

    /// The same fault in a longer text, of which the old one was the part from byte `offset` on.
    pub(super) fn inside(self, text: &str, offset: usize) -> Self {
        Self::new(text, self.at.map(|at| at + offset), self.fault)
    }

    /// The text that was refused.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn fault(&self) -> AddressFault {
        self.fault
    }

    /// Where, as a byte offset into [`text`](Self::text); `None` when it is about the whole.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        self.at
    }

    /// What to write instead.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match self.fault {
            AddressFault::Empty | AddressFault::UnknownScheme => {
                "write unix:PATH, unix-abstract:NAME, autobind:, fd:N, fd:NAME, tcp:HOST:PORT or, for a client, https://HOST:PORT or published:FILE"
            }
            AddressFault::NoPath => "write unix:PATH, for example unix:/run/app/app.sock",
            AddressFault::PathWithHost => {
                "write unix:PATH for a relative path, unix:/PATH or unix:///PATH for an absolute one"
            }
            AddressFault::Directory => "name the socket itself, for example unix:/run/app/app.sock",
            AddressFault::NoName => {
                "write unix-abstract:NAME, or autobind: to let the kernel pick a name"
            }
            AddressFault::BadEscape => "write %25 for a literal \"%\"",
            AddressFault::BadDescriptor => {
                "write fd:3 for descriptor 3, or fd:NAME for the one that a service manager passed as NAME"
            }
            AddressFault::NoHost => {
                "a server for every interface listens on tcp:0.0.0.0:PORT or tcp:[::]:PORT"
            }
            AddressFault::UnbracketedIpv6 => "write tcp:[::1]:PORT",
            AddressFault::NoPort => "write the port behind the host: HOST:PORT",
            AddressFault::NoSlashes | AddressFault::PathBehindPort => "write https://HOST:PORT",
            AddressFault::HttpsListener => {
                "listen on tcp:HOST:PORT and give the server its certificate"
            }
            AddressFault::PublishedListener => {
                "listen on autobind: or tcp:HOST:0 and name the file with --publish"
            }
            AddressFault::PacketsOverTcp { .. } => "use a unix: or unix-abstract: address",
            _ => return None,
        })
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.char_indices().nth(QUOTED_CHARACTERS_MAX) {
            None => write!(f, "address {:?} ", self.text)?,
            Some((end, _)) => write!(f, "address {:?}… ", &self.text[..end])?,
        }
        write!(f, "{}", self.fault)?;
        match self.at {
            None => Ok(()),
            // People count characters, from one.
            Some(at) => {
                let before = self.text.char_indices().take_while(|(i, _)| *i < at);
                write!(f, " (character {})", before.count() + 1)
            }
        }
    }
}

impl std::error::Error for AddressError {}

/// Never happens: it lets one function take an [`Address`](super::Address) as well as its text.
impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
