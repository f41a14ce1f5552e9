//! The names a socket needs beside its own: temporary while it is made ready, lock while its name changes hands. Pure.
//!
//! Trap: a temporary is bound through `/proc/self/fd/N/..` and the kernel takes 107 bytes, so a long name is abridged.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Longest name kept whole: `/proc/self/fd/1048576/` + `.` + it + `.nigh-4194304-65535` stays within 107 bytes.
const WHOLE_BYTES_MAX: usize = 48;
/// What is kept of a longer name, before the hash that tells it from its neighbours.
const HEAD_BYTES: usize = 31;

/// The sibling names of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// `.NAME.nigh-`
    prefix: Vec<u8>,
}

impl Names {
    pub(crate) fn of(name: &OsStr) -> Self {
        let mut prefix = vec![b'.'];
        let bytes = name.as_bytes();
        match bytes.get(..HEAD_BYTES) {
            Some(head) if bytes.len() > WHOLE_BYTES_MAX => {
                prefix.extend_from_slice(head);
                prefix.extend_from_slice(format!("~{:016x}", fnv1a(bytes)).as_bytes());
            }
            _ => prefix.extend_from_slice(bytes),
        }
        prefix.extend_from_slice(b".nigh-");
        Self { prefix }
    }

    /// `.NAME.nigh-lock`
    pub(crate) fn lock(&self) -> OsString {
        self.with(b"lock")
    }

    /// `.NAME.nigh-PID-N`
    pub(crate) fn temporary(&self, pid: u32, n: u16) -> OsString {
        self.with(format!("{pid}-{n}").as_bytes())
    }

    /// Whether `name` is what [`Names::temporary`] gives for some process.
    pub(crate) fn is_temporary(&self, name: &[u8]) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix.as_slice()) else {
            return false;
        };
        let number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        let mut parts = rest.split(|byte| *byte == b'-');
        matches!((parts.next(), parts.next(), parts.next()), (Some(pid), Some(n), None) if number(pid) && number(n))
    }

    fn with(&self, end: &[u8]) -> OsString {
        OsString::from_vec([self.prefix.as_slice(), end].concat())
    }
}

/// FNV-1a, 64 bits: neighbours with one head must differ, nobody has to be kept from finding two that do not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_kept() {
        let names = Names::of(OsStr::new("app.sock"));
        assert_eq!(names.lock(), ".app.sock.nigh-lock");
        assert_eq!(names.temporary(42, 7), ".app.sock.nigh-42-7");
    }

    #[test]
    fn long_names_fit_and_differ() {
        let long = |end: &str| OsString::from("x".repeat(250) + end);
        let (a, b) = (Names::of(&long("a")), Names::of(&long("b")));
        assert_ne!(a.lock(), b.lock());
        let bound =
            OsString::from("/proc/self/fd/1048576/").len() + a.temporary(4_194_304, u16::MAX).len();
        assert!(bound <= 107, "{bound}");
        let whole = Names::of(OsStr::new(&"x".repeat(WHOLE_BYTES_MAX)));
        assert!(22 + whole.temporary(4_194_304, u16::MAX).len() <= 107);
    }

    #[test]
    fn only_our_own_pattern_is_a_temporary() {
        let names = Names::of(OsStr::new("s"));
        for (name, expected) in [
            (".s.nigh-1-0", true),
            (".s.nigh-4194304-65535", true),
            (".s.nigh-lock", false),
            (".s.nigh-1", false),
            (".s.nigh-1-", false),
            (".s.nigh--1", false),
            (".s.nigh-1-2-3", false),
            (".s.nigh-1-2x", false),
            (".t.nigh-1-2", false),
            ("s.nigh-1-2", false),
            ("s", false),
        ] {
            assert_eq!(names.is_temporary(name.as_bytes()), expected, "{name}");
        }
    }
}
