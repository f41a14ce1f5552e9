//! Addresses and their one grammar: what a socket is called on the command line, in configuration and in code.
//!
//! Trap: `Path`s compare by component (`/a//b` equals `/a/b`), their printed addresses by byte.

mod error;
mod parse;
mod print;

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use error::{AddressError, AddressFault};

/// The longest path in bytes: `PATH_MAX` less the terminating NUL. Above 107 bytes it goes through a directory descriptor.
pub const PATH_BYTES_MAX: usize = 4095;

/// The longest abstract name in bytes: what `sun_path` holds after the leading NUL.
pub const ABSTRACT_BYTES_MAX: usize = 107;

/// The longest host name in bytes (RFC 1035).
pub const HOST_BYTES_MAX: usize = 253;

/// The longest name of a descriptor from a service manager, in bytes (sd_listen_fds(3)).
pub const DESCRIPTOR_NAME_BYTES_MAX: usize = 255;

/// Where a server listens or a client connects.
///
/// ```text
/// listen  = [ "drpc:" | "seqpacket:" | "dgram:" ] address      plain: a stream
/// address = "unix:" path | "unix://" absolute-path             a file name, at most 4095 bytes
///         | "unix-abstract:" name                              1 to 107 bytes, any
///         | "autobind:"                                        the kernel picks an abstract name
///         | "fd:" number                                       an inherited or activated descriptor
///         | "fd:" name                                         one that a service manager passed under this name
///         | "tcp:" host ":" port                               an IPv6 address stands in brackets
///         | "https://" host ":" port                           for clients only
///         | "published:" path                                  for clients only: the address is in that file
/// ```
///
/// In paths and names `%` and two hexadecimal digits stand for one byte, as in gRPC's own naming; a literal `%` is
/// written `%25`. Printing and parsing are inverse. Printing chooses `unix:` for every path and escapes what is not a
/// visible character, and space, `%`, `?` and `#`: what is printed survives a list and another gRPC's URI parser.
///
/// Whatever comes out of parsing and of `TryFrom` is valid; a value put together by hand is checked with
/// [`Address::check`].
///
/// ```
/// use nigh_socket::{Address, Listen};
///
/// let address: Address = "unix:///run/my%20app/s".parse()?;
/// assert_eq!(address, Address::Path("/run/my app/s".into()));
/// assert_eq!(address.to_string(), "unix:/run/my%20app/s");
///
/// let error = "https://example.com:443".parse::<Listen>().unwrap_err();
/// assert!(error.to_string().ends_with("is for clients only: a server cannot listen on https:"));
/// # Ok::<(), nigh_socket::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A socket file, of any bytes but NUL; relative paths are relative to the working directory at bind or connect.
    Path(PathBuf),
    /// A name outside the file system, of any bytes. It has no permissions: identity is the only gate.
    Abstract(Vec<u8>),
    /// An abstract name that the kernel picks at bind; only a listener has it.
    Autobind,
    /// A descriptor this process has already: inherited, or from socket activation.
    Fd(RawFd),
    /// One that a service manager passed under this name (`LISTEN_FDNAMES`), which has a letter in it: 1 to 255 ASCII
    /// characters, no colon, no control character. Of several with the name, the first of the right type not yet taken.
    Activated(String),
    /// TCP.
    Tcp {
        /// A host name, an IPv4 address or an IPv6 address (here without its brackets).
        host: String,
        /// The port; 0 lets the kernel pick one at bind.
        port: u16,
    },
    /// gRPC with TLS over TCP; only a client has it.
    Https {
        /// As for [`Address::Tcp`].
        host: String,
        /// The port.
        port: u16,
    },
    /// What a server has written to this file ([`ListenerOptions::publish`](crate::ListenerOptions::publish)): for a
    /// server whose name or port the kernel picks. Only a client has it.
    Published(PathBuf),
}

/// What a listening socket speaks, written before its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Role {
    /// A stream: gRPC and HTTP. Written as no prefix at all.
    #[default]
    Stream,
    /// dRPC over packets: `drpc:`.
    Drpc,
    /// Plain packets with a connection: `seqpacket:`.
    Seqpacket,
    /// Plain datagrams: `dgram:`.
    Datagram,
}

impl Role {
    /// The prefix, with its colon; empty for a stream.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Stream => "",
            Self::Drpc => "drpc:",
            Self::Seqpacket => "seqpacket:",
            Self::Datagram => "dgram:",
        }
    }
}

/// What a server is told to listen on: `[drpc:|seqpacket:|dgram:]ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listen {
    /// What is spoken there.
    pub role: Role,
    /// Where.
    pub address: Address,
}

impl Listen {
    /// Puts the two together.
    ///
    /// # Errors
    /// When nothing can listen there in that role: `https:` and `published:`, packets over TCP, or an address that is not valid.
    pub fn new(role: Role, address: Address) -> Result<Self, AddressError> {
        let listen = Self { role, address };
        match listen.fault() {
            None => Ok(listen),
            Some(fault) => Err(AddressError::new(&listen.to_string(), None, fault)),
        }
    }

    fn fault(&self) -> Option<AddressFault> {
        match (&self.address, self.role) {
            (Address::Https { .. }, _) => Some(AddressFault::HttpsListener),
            (Address::Published(_), _) => Some(AddressFault::PublishedListener),
            (Address::Tcp { .. }, role) if role != Role::Stream => {
                Some(AddressFault::PacketsOverTcp { role })
            }
            _ => parse::address_fault(&self.address),
        }
    }
}

impl Address {
    /// Checks a value that was not parsed: an empty or too long path, a negative descriptor, a host that is none.
    ///
    /// # Errors
    /// Says what is wrong; everything that parsing returns passes.
    pub fn check(&self) -> Result<(), AddressError> {
        match parse::address_fault(self) {
            None => Ok(()),
            Some(fault) => Err(AddressError::new(&self.to_string(), None, fault)),
        }
    }

    fn checked(self) -> Result<Self, AddressError> {
        self.check()?;
        Ok(self)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse::address(text)
    }
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse::listen(text)
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

/// A path as it is: nothing in it is an escape.
impl TryFrom<PathBuf> for Address {
    type Error = AddressError;

    fn try_from(path: PathBuf) -> Result<Self, AddressError> {
        Self::Path(path).checked()
    }
}

/// A path as it is: nothing in it is an escape.
impl TryFrom<&Path> for Address {
    type Error = AddressError;

    fn try_from(path: &Path) -> Result<Self, AddressError> {
        path.to_owned().try_into()
    }
}

/// A path as it is: nothing in it is an escape.
impl TryFrom<&PathBuf> for Address {
    type Error = AddressError;

    fn try_from(path: &PathBuf) -> Result<Self, AddressError> {
        path.clone().try_into()
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl TryFrom<&str> for Listen {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Listen {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

/// A stream at that address.
impl TryFrom<Address> for Listen {
    type Error = AddressError;

    fn try_from(address: Address) -> Result<Self, AddressError> {
        Self::new(Role::Stream, address)
    }
}

#[cfg(test)]
mod tests;
