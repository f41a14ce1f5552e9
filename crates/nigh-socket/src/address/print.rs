//! The printed form of addresses. Trap: it must parse back to the same bytes, so `//x` is printed as `unix:////x`.

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Address, Listen, Role};

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => file(f, "unix:", path),
            Self::Published(path) => file(f, "published:", path),
            Self::Abstract(name) => {
                f.write_str("unix-abstract:")?;
                escaped(f, name)
            }
            Self::Autobind => f.write_str("autobind:"),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
            Self::Activated(name) => {
                f.write_str("fd:")?;
                escaped(f, name.as_bytes())
            }
            Self::Tcp { host, port } => {
                f.write_str("tcp:")?;
                host_port(f, host, *port)
            }
            Self::Https { host, port } => {
                f.write_str("https://")?;
                host_port(f, host, *port)
            }
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.role.prefix(), self.address)
    }
}

impl fmt::Display for Role {
    /// The word before the colon; `stream` for a stream.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::Drpc => "drpc",
            Self::Seqpacket => "seqpacket",
            Self::Datagram => "dgram",
        })
    }
}

fn file(f: &mut fmt::Formatter<'_>, scheme: &str, path: &Path) -> fmt::Result {
    let bytes = path.as_os_str().as_bytes();
    let authority = if bytes.starts_with(b"//") { "//" } else { "" };
    write!(f, "{scheme}{authority}")?;
    escaped(f, bytes)
}

fn host_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]:{port}")
    } else {
        write!(f, "{host}:{port}")
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_plain(character) {
                f.write_char(character)?;
            } else {
                percent(f, character.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        percent(f, chunk.invalid())?;
    }
    Ok(())
}

fn percent(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
}

/// Whether a reader sees it as what it is: no space, no control or bidirectional mark, nothing the grammar gives meaning.
fn is_plain(character: char) -> bool {
    match character {
        ' ' | '%' | '?' | '#' => false,
        '\\' | '\'' | '"' => true,
        // The standard library's table of what can be printed; it escapes nothing else but the three above.
        other => other.escape_debug().len() == 1,
    }
}
