//! Names of users and groups to ids and back, for policies and socket owners. A value of digits only is an id.
//!
//! Trap: a lookup may ask a directory server and block; it belongs where configuration is loaded, not to a connection.

use std::ffi::CString;
use std::io;

use crate::sys::nss;

/// A user or group that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// No database of this machine knows the user.
    #[error("no such user {name:?}")]
    NoSuchUser {
        /// The name that was asked for.
        name: String,
    },
    /// No database of this machine knows the group.
    #[error("no such group {name:?}")]
    NoSuchGroup {
        /// The name that was asked for.
        name: String,
    },
    /// A name cannot be empty.
    #[error("a user or group name is empty")]
    EmptyName,
    /// A name cannot have a NUL byte.
    #[error("the user or group name {name:?} has a NUL byte")]
    NulInName {
        /// The name.
        name: String,
    },
    /// Digits that are no id: ids go to 4294967294, the number above means "none" to the kernel.
    #[error("{text} is not a user or group id: they go from 0 to 4294967294")]
    IdOutOfRange {
        /// The digits.
        text: String,
    },
    /// The databases did not answer.
    #[error("cannot look up {key:?}: {}", io::Error::from_raw_os_error(*.errno))]
    Lookup {
        /// The name or id that was asked for.
        key: String,
        /// What the C library reported.
        errno: i32,
    },
}

impl UserError {
    /// What an operator can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSuchUser { .. } => {
                Some("create the user, or give its number; `getent passwd` lists the known ones")
            }
            Self::NoSuchGroup { .. } => {
                Some("create the group, or give its number; `getent group` lists the known ones")
            }
            Self::Lookup { .. } => Some("see whether `getent passwd` and `getent group` answer"),
            _ => None,
        }
    }
}

/// The id of a user, given by name or as digits.
///
/// # Errors
/// When there is no such user, or its databases cannot be asked. An id need not belong to any user.
pub fn uid_of(user: &str) -> Result<u32, UserError> {
    if let Some(id) = digits(user)? {
        return Ok(id);
    }
    match nss::user_by_name(&c_name(user)?) {
        Ok(Some(entry)) => Ok(entry.id),
        Ok(None) => Err(UserError::NoSuchUser { name: user.into() }),
        Err(errno) => Err(failed(user, errno)),
    }
}

/// The id of a group, given by name or as digits.
///
/// # Errors
/// When there is no such group, or its databases cannot be asked. An id need not belong to any group.
pub fn gid_of(group: &str) -> Result<u32, UserError> {
    if let Some(id) = digits(group)? {
        return Ok(id);
    }
    match nss::group_by_name(&c_name(group)?) {
        Ok(Some(entry)) => Ok(entry.id),
        Ok(None) => Err(UserError::NoSuchGroup { name: group.into() }),
        Err(errno) => Err(failed(group, errno)),
    }
}

/// The effective uid of this process: whose rights it has, and what its peers see.
pub(crate) fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The name of a user, for display; `None` when the databases answered that nobody has this id.
///
/// # Errors
/// When the databases cannot be asked.
pub fn user_name(uid: u32) -> Result<Option<String>, UserError> {
    name(uid, nss::user_by_id(uid))
}

/// The name of a group, for display; `None` when the databases answered that no group has this id.
///
/// # Errors
/// When the databases cannot be asked.
pub fn group_name(gid: u32) -> Result<Option<String>, UserError> {
    name(gid, nss::group_by_id(gid))
}

fn name(id: u32, answer: Result<Option<nss::Entry>, i32>) -> Result<Option<String>, UserError> {
    let entry = answer.map_err(|errno| failed(&id.to_string(), errno))?;
    Ok(entry.map(|entry| String::from_utf8_lossy(&entry.name).into_owned()))
}

/// Whether a value is an id by its looks: one digit or more, and nothing else.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn digits(text: &str) -> Result<Option<u32>, UserError> {
    if !is_id(text) {
        return Ok(None);
    }
    match text.parse() {
        // chown(2) and setuid(2) take -1 for "leave as it is".
        Ok(u32::MAX) | Err(_) => Err(UserError::IdOutOfRange { text: text.into() }),
        Ok(id) => Ok(Some(id)),
    }
}

fn c_name(name: &str) -> Result<CString, UserError> {
    if name.is_empty() {
        return Err(UserError::EmptyName);
    }
    CString::new(name).map_err(|_| UserError::NulInName { name: name.into() })
}

fn failed(key: &str, errno: i32) -> UserError {
    let key = key.into();
    UserError::Lookup { key, errno }
}

#[cfg(test)]
mod tests {
    use super::{UserError, gid_of, group_name, uid_of, user_name};

    #[test]
    fn names_and_digits_give_ids() {
        assert_eq!(uid_of("root"), Ok(0));
        assert_eq!(gid_of("root"), Ok(0));
        assert_eq!(uid_of("0012"), Ok(12));
        assert_eq!(gid_of("4294967294"), Ok(4_294_967_294));
        assert_eq!(user_name(0), Ok(Some("root".into())));
        assert_eq!(group_name(0), Ok(Some("root".into())));
        assert_eq!(user_name(4_000_000_001), Ok(None));
        assert_eq!(group_name(4_000_000_001), Ok(None));
    }

    #[test]
    fn what_is_none_is_named() {
        let name = || "no such one".to_owned();
        assert_eq!(uid_of(&name()), Err(UserError::NoSuchUser { name: name() }));
        assert_eq!(
            gid_of(&name()),
            Err(UserError::NoSuchGroup { name: name() })
        );
        assert_eq!(uid_of(""), Err(UserError::EmptyName));
        let name = "a\0b".to_owned();
        assert_eq!(gid_of(&name), Err(UserError::NulInName { name }));
        for text in ["4294967295", "99999999999999999999"] {
            let text = text.to_owned();
            assert_eq!(uid_of(&text), Err(UserError::IdOutOfRange { text }));
        }
    }

    #[test]
    fn errors_are_one_clause_with_a_hint() {
        let error = uid_of("nobody-here").unwrap_err();
        assert_eq!(error.to_string(), "no such user \"nobody-here\"");
        assert!(error.hint().is_some());
        let error = UserError::Lookup {
            key: "app".into(),
            errno: libc::EIO,
        };
        assert_eq!(
            error.to_string(),
            "cannot look up \"app\": Input/output error (os error 5)"
        );
    }
}
