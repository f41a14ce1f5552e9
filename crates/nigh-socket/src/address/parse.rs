//! Reads addresses: pure, and every refusal says where.
//!
//! Trap: `FromStr` of integers takes a leading `+`, so digits are checked first.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use super::{
    ABSTRACT_BYTES_MAX, Address, AddressError, AddressFault, DESCRIPTOR_NAME_BYTES_MAX,
    HOST_BYTES_MAX, Listen, PATH_BYTES_MAX, Role,
};

/// A fault and the byte offset it is at.
type Fault = (Option<usize>, AddressFault);

pub(super) fn listen(text: &str) -> Result<Listen, AddressError> {
    let packet_roles = [Role::Drpc, Role::Seqpacket, Role::Datagram];
    let (role, rest) = packet_roles
        .into_iter()
        .find_map(|role| Some((role, text.strip_prefix(role.prefix())?)))
        .unwrap_or((Role::Stream, text));
    let offset = text.len() - rest.len();
    let address = address(rest).map_err(|error| error.inside(text, offset))?;
    let listen = Listen { role, address };
    match listen.fault() {
        None => Ok(listen),
        Some(fault) => Err(AddressError::new(text, None, fault)),
    }
}

pub(super) fn address(text: &str) -> Result<Address, AddressError> {
    parts(text).map_err(|(at, fault)| AddressError::new(text, at, fault))
}

/// What is wrong with an address that may not come from [`address`].
pub(super) fn address_fault(address: &Address) -> Option<AddressFault> {
    match address {
        Address::Path(path) | Address::Published(path) => path_fault(path.as_os_str().as_bytes()),
        Address::Abstract(name) => name_fault(name),
        Address::Autobind => None,
        Address::Fd(fd) => (*fd < 0).then_some(AddressFault::BadDescriptor),
        Address::Activated(name) => {
            (!is_descriptor_name(name.as_bytes())).then_some(AddressFault::BadDescriptor)
        }
        Address::Tcp { host, .. } => host_fault(host),
        Address::Https { host, port } => {
            host_fault(host).or((*port == 0).then_some(AddressFault::BadPort))
        }
    }
}

fn parts(text: &str) -> Result<Address, Fault> {
    if text.is_empty() {
        return Err((None, AddressFault::Empty));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err((None, AddressFault::UnknownScheme));
    };
    let offset = scheme.len() + 1;
    match scheme {
        "unix" => path(rest, offset).map(Address::Path),
        "published" => path(rest, offset).map(Address::Published),
        "unix-abstract" => {
            let name = unescape(rest, offset)?;
            match name_fault(&name) {
                None => Ok(Address::Abstract(name)),
                Some(fault) => Err((Some(offset), fault)),
            }
        }
        "autobind" if rest.is_empty() => Ok(Address::Autobind),
        "autobind" => Err((Some(offset), AddressFault::AutobindWithText)),
        "fd" => descriptor(rest, offset),
        "tcp" => {
            let (host, port) = host_port(rest, offset)?;
            Ok(Address::Tcp { host, port })
        }
        "https" => https(rest, offset),
        _ => Err((Some(0), AddressFault::UnknownScheme)),
    }
}

/// A number, or a name that cannot be taken for one.
fn descriptor(rest: &str, offset: usize) -> Result<Address, Fault> {
    if let Some(fd) = number::<RawFd>(rest) {
        return Ok(Address::Fd(fd));
    }
    match String::from_utf8(unescape(rest, offset)?) {
        Ok(name) if is_descriptor_name(name.as_bytes()) => Ok(Address::Activated(name)),
        _ => Err((Some(offset), AddressFault::BadDescriptor)),
    }
}

/// What `LISTEN_FDNAMES` can hold, less what looks like a number.
fn is_descriptor_name(name: &[u8]) -> bool {
    let fits = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b':';
    name.len() <= DESCRIPTOR_NAME_BYTES_MAX
        && name.iter().all(fits)
        && name.iter().any(u8::is_ascii_alphabetic)
}

fn path(rest: &str, offset: usize) -> Result<PathBuf, Fault> {
    let (rest, offset) = match rest.strip_prefix("//") {
        None => (rest, offset),
        Some(behind) if behind.starts_with('/') => (behind, offset + 2),
        Some("") => return Err((Some(offset + 2), AddressFault::NoPath)),
        Some(_) => return Err((Some(offset + 2), AddressFault::PathWithHost)),
    };
    let bytes = unescape(rest, offset)?;
    match path_fault(&bytes) {
        None => Ok(OsString::from_vec(bytes).into()),
        Some(fault) => Err((Some(offset), fault)),
    }
}

fn https(rest: &str, offset: usize) -> Result<Address, Fault> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err((Some(offset), AddressFault::NoSlashes));
    };
    let offset = offset + 2;
    if let Some(slash) = rest.find('/') {
        return Err((Some(offset + slash), AddressFault::PathBehindPort));
    }
    match host_port(rest, offset)? {
        (_, 0) => Err((Some(offset + rest.len() - 1), AddressFault::BadPort)),
        (host, port) => Ok(Address::Https { host, port }),
    }
}

fn host_port(rest: &str, offset: usize) -> Result<(String, u16), Fault> {
    let (host, behind) = match rest.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, behind)) if is_ipv6(host) => (host, behind),
            _ => return Err((Some(offset), AddressFault::BadHost)),
        },
        None => {
            let (host, _) = rest.rsplit_once(':').unwrap_or((rest, ""));
            if host.contains(':') {
                return Err((Some(offset), AddressFault::UnbracketedIpv6));
            }
            (host, &rest[host.len()..])
        }
    };
    if let Some(fault) = host_fault(host) {
        return Err((Some(offset), fault));
    }
    let port_offset = offset + rest.len() - behind.len();
    match behind.strip_prefix(':') {
        None | Some("") => Err((Some(port_offset), AddressFault::NoPort)),
        Some(digits) => match number(digits) {
            Some(port) => Ok((host.to_owned(), port)),
            None => Err((Some(port_offset + 1), AddressFault::BadPort)),
        },
    }
}

fn unescape(text: &str, offset: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let at = offset + text.len() - behind.len() - 1;
        let (Some(high), Some(low)) = (hex(behind.first()), hex(behind.get(1))) else {
            return Err((Some(at), AddressFault::BadEscape));
        };
        bytes.push(high << 4 | low);
        rest = &behind[2..];
    }
    Ok(bytes)
}

fn hex(byte: Option<&u8>) -> Option<u8> {
    match byte? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        letter @ b'a'..=b'f' => Some(letter - b'a' + 10),
        letter @ b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn path_fault(bytes: &[u8]) -> Option<AddressFault> {
    let last = bytes.rsplit(|byte| *byte == b'/').next();
    if bytes.is_empty() {
        Some(AddressFault::NoPath)
    } else if bytes.contains(&0) {
        Some(AddressFault::Nul)
    } else if bytes.len() > PATH_BYTES_MAX {
        Some(AddressFault::PathTooLong { bytes: bytes.len() })
    } else if matches!(last, None | Some(b"" | b"." | b"..")) {
        Some(AddressFault::Directory)
    } else {
        None
    }
}

fn name_fault(name: &[u8]) -> Option<AddressFault> {
    match name.len() {
        0 => Some(AddressFault::NoName),
        1..=ABSTRACT_BYTES_MAX => None,
        bytes => Some(AddressFault::NameTooLong { bytes }),
    }
}

fn host_fault(host: &str) -> Option<AddressFault> {
    if host.is_empty() {
        Some(AddressFault::NoHost)
    } else if host.len() > HOST_BYTES_MAX {
        Some(AddressFault::HostTooLong { bytes: host.len() })
    } else if is_ipv6(host) || is_name_or_ipv4(host) {
        None
    } else {
        Some(AddressFault::BadHost)
    }
}

/// An IPv6 address, with a zone (`fe80::1%eth0`) or without.
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = match host.split_once('%') {
        None => (host, None),
        Some((address, zone)) => (address, Some(zone)),
    };
    let zone_fits = zone.is_none_or(|zone| !zone.is_empty() && zone.bytes().all(is_host_byte));
    zone_fits && Ipv6Addr::from_str(address).is_ok()
}

fn is_name_or_ipv4(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let well_formed = labels
        .split('.')
        .all(|label| !label.is_empty() && label.bytes().all(is_host_byte));
    // A name whose last label is a number would be taken for a damaged IPv4 address by resolvers.
    let last = labels.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    well_formed && (!numeric || Ipv4Addr::from_str(host).is_ok())
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
