//! Users and groups by name and by number, from whatever databases this machine has: the reentrant `get*_r` calls.
//!
//! Trap: they may ask a directory server and block for seconds; call them when loading, never per connection.

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;

/// A record's number and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) name: Vec<u8>,
}

/// Enough for nearly every record; it doubles up to a group with tens of thousands of members.
const BUFFER_BYTES: usize = 1024;
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

pub(crate) fn user_by_name(name: &CStr) -> Result<Option<Entry>, c_int> {
    growing(|buffer| {
        let mut record = MaybeUninit::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: `name` ends in NUL; `record`, `buffer` (with its true length) and `found` are ours to write to.
        let code = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                record.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        // SAFETY: `found` is null or the address of `record`, filled, its strings inside `buffer`.
        (code, unsafe { user(found) })
    })
}

pub(crate) fn user_by_id(uid: u32) -> Result<Option<Entry>, c_int> {
    growing(|buffer| {
        let mut record = MaybeUninit::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: `record`, `buffer` (with its true length) and `found` are ours to write to.
        let code = unsafe {
            libc::getpwuid_r(
                uid,
                record.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        // SAFETY: `found` is null or the address of `record`, filled, its strings inside `buffer`.
        (code, unsafe { user(found) })
    })
}

pub(crate) fn group_by_name(name: &CStr) -> Result<Option<Entry>, c_int> {
    growing(|buffer| {
        let mut record = MaybeUninit::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: `name` ends in NUL; `record`, `buffer` (with its true length) and `found` are ours to write to.
        let code = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                record.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        // SAFETY: `found` is null or the address of `record`, filled, its strings inside `buffer`.
        (code, unsafe { group(found) })
    })
}

pub(crate) fn group_by_id(gid: u32) -> Result<Option<Entry>, c_int> {
    growing(|buffer| {
        let mut record = MaybeUninit::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: `record`, `buffer` (with its true length) and `found` are ours to write to.
        let code = unsafe {
            libc::getgrgid_r(
                gid,
                record.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        // SAFETY: `found` is null or the address of `record`, filled, its strings inside `buffer`.
        (code, unsafe { group(found) })
    })
}

/// # Safety
/// `found` is null, or points to a filled record whose name is a string that is still there.
unsafe fn user(found: *const libc::passwd) -> Option<Entry> {
    // SAFETY: the caller's promise.
    let record = unsafe { found.as_ref() }?;
    Some(Entry {
        id: record.pw_uid,
        // SAFETY: the caller's promise.
        name: unsafe { CStr::from_ptr(record.pw_name) }.to_bytes().into(),
    })
}

/// # Safety
/// As for [`user`].
unsafe fn group(found: *const libc::group) -> Option<Entry> {
    // SAFETY: the caller's promise.
    let record = unsafe { found.as_ref() }?;
    Some(Entry {
        id: record.gr_gid,
        // SAFETY: the caller's promise.
        name: unsafe { CStr::from_ptr(record.gr_name) }.to_bytes().into(),
    })
}

/// Calls with a larger buffer as long as the answer is that it is too small; the error is an error number.
fn growing(
    mut lookup: impl FnMut(&mut [c_char]) -> (c_int, Option<Entry>),
) -> Result<Option<Entry>, c_int> {
    let mut buffer: Vec<c_char> = vec![0; BUFFER_BYTES];
    loop {
        let (code, entry) = lookup(&mut buffer);
        match code {
            0 => return Ok(entry),
            // What databases report instead of 0 when they have no such record (getpwnam(3)).
            libc::ENOENT | libc::ESRCH => return Ok(None),
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < BUFFER_BYTES_MAX => buffer.resize(buffer.len() * 2, 0),
            errno => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_BYTES_MAX, Entry, growing};

    fn entry() -> Entry {
        let name = b"app".to_vec();
        Entry { id: 7, name }
    }

    #[test]
    fn the_buffer_grows_until_the_record_fits() {
        let mut asked = Vec::new();
        let found = growing(|buffer| {
            asked.push(buffer.len());
            match buffer.len() {
                0..5000 => (libc::ERANGE, None),
                _ => (0, Some(entry())),
            }
        });
        assert_eq!(found, Ok(Some(entry())));
        assert_eq!(asked, [1024, 2048, 4096, 8192]);
    }

    #[test]
    fn growing_ends() {
        let mut last = 0;
        let outcome = growing(|buffer| {
            last = buffer.len();
            (libc::ERANGE, None)
        });
        assert_eq!((outcome, last), (Err(libc::ERANGE), BUFFER_BYTES_MAX));
    }

    #[test]
    fn no_record_is_told_from_not_finding_out() {
        let answer = |code| growing(|_| (code, None));
        assert_eq!(answer(0), Ok(None));
        assert_eq!(answer(libc::ENOENT), Ok(None));
        assert_eq!(answer(libc::ESRCH), Ok(None));
        assert_eq!(answer(libc::EIO), Err(libc::EIO));
        assert_eq!(answer(-1), Err(-1));
        assert_eq!(answer(libc::EMFILE), Err(libc::EMFILE));
        let mut interruptions = 2;
        let found = growing(|_| match interruptions {
            0 => (0, Some(entry())),
            _ => {
                interruptions -= 1;
                (libc::EINTR, None)
            }
        });
        assert_eq!(found, Ok(Some(entry())));
    }
}
