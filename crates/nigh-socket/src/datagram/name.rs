//! The address of a datagram socket as the kernel's bytes (`struct sockaddr_un`), both ways.
//!
//! Trap: an abstract name is every byte up to the length, NULs included; a path ends at its NUL, or at the length.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::address::Address;

/// `AF_UNIX`.
const FAMILY: u16 = 1;

/// What a path may be at most, less its NUL; an abstract name likewise, less the NUL before it.
const NAME_BYTES_MAX: usize = 107;

/// The sender's address; `None` for a socket without a name.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> Option<Address> {
    let (family, name) = bytes.split_first_chunk()?;
    if u16::from_ne_bytes(*family) != FAMILY {
        return None;
    }
    match name {
        [] => None,
        [0, name @ ..] => Some(Address::Abstract(name.to_vec())),
        path => {
            let path = path.split(|byte| *byte == 0).next()?;
            Some(Address::Path(PathBuf::from(OsStr::from_bytes(path))))
        }
    }
}

/// A path; `None` when it is too long, or no path.
pub(crate) fn path(path: &[u8]) -> Option<Vec<u8>> {
    let fits = (1..=NAME_BYTES_MAX).contains(&path.len()) && !path.contains(&0);
    fits.then(|| [&FAMILY.to_ne_bytes(), path, &[0]].concat())
}

/// An abstract name; `None` when it is too long.
pub(crate) fn abstract_name(name: &[u8]) -> Option<Vec<u8>> {
    let fits = name.len() <= NAME_BYTES_MAX;
    fits.then(|| [&FAMILY.to_ne_bytes(), &[0][..], name].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_told_apart() {
        let family = FAMILY.to_ne_bytes();
        let of = |name: &[u8]| decode(&[&family, name].concat());
        assert_eq!(of(b""), None);
        assert_eq!(of(b"/run/x\0"), Some(Address::Path("/run/x".into())));
        // 108 bytes leave no room for the NUL.
        assert_eq!(of(b"/run/x"), Some(Address::Path("/run/x".into())));
        assert_eq!(of(b"\0a\0b\0"), Some(Address::Abstract(b"a\0b\0".to_vec())));
        assert_eq!(decode(b""), None);
        assert_eq!(decode(&[1]), None);
        assert_eq!(decode(&[2, 2, b'/', 0]), None);
    }

    #[test]
    fn what_is_too_long_is_no_name() {
        assert!(path(&[b'x'; 107]).is_some() && abstract_name(&[b'x'; 107]).is_some());
        assert!(path(&[b'x'; 108]).is_none() && abstract_name(&[b'x'; 108]).is_none());
        assert!(path(b"").is_none() && path(b"a\0b").is_none());
    }

    proptest! {
        #[test]
        fn decoding_what_was_encoded_is_the_identity(name in prop::collection::vec(any::<u8>(), 0..=107)) {
            if let Some(bytes) = path(&name) {
                prop_assert_eq!(decode(&bytes), Some(Address::Path(OsStr::from_bytes(&name).into())));
            }
            let bytes = abstract_name(&name).unwrap();
            prop_assert_eq!(decode(&bytes), Some(Address::Abstract(name)));
        }

        #[test]
        fn no_name_panics(bytes in prop::collection::vec(any::<u8>(), 0..130)) {
            let _ = decode(&bytes);
        }
    }
}
