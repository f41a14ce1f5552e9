//! `SIGPIPE`, which `splice` and `sendfile` raise and have no flag against.
//!
//! Trap: Rust programs ignore it, but one that is a library of a C program, or gave it its default back, is killed.

use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;

/// Makes the call with `SIGPIPE` held back from this thread; one that it raised is taken away again.
pub(crate) fn without_broken_pipe<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    if is_ignored() {
        return call();
    }
    let only = only_broken_pipe();
    let waited_before = is_pending();
    let mut before = empty();
    // SAFETY: both sets are initialised and outlive the call; it changes the mask of this thread alone.
    let blocked =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, &raw mut before) };
    let done = call();
    if matches!(done, Err(Errno::PIPE)) && !waited_before && is_pending() {
        let at_once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the set and the time are initialised and outlive the call; no information is asked for.
        unsafe { libc::sigtimedwait(&raw const only, ptr::null_mut(), &raw const at_once) };
    }
    if blocked == 0 {
        // SAFETY: the set is the one that the call above filled.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    }
    done
}

/// Whether it does nothing in this process.
fn is_ignored() -> bool {
    // SAFETY: `sigaction` consists of integers and pointers, for which all-zero is a value.
    let mut now: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: nothing is changed; the kernel fills `now`, which outlives the call.
    let outcome = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut now) };
    outcome == 0 && now.sa_sigaction == libc::SIG_IGN
}

fn is_pending() -> bool {
    let mut pending = empty();
    // SAFETY: the kernel fills the set, which outlives the call.
    let outcome = unsafe { libc::sigpending(&raw mut pending) };
    // SAFETY: the set is initialised.
    outcome == 0 && unsafe { libc::sigismember(&raw const pending, libc::SIGPIPE) } == 1
}

/// No signals.
pub(super) fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: it fills the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: filled by the line above, which cannot fail for a valid pointer.
    unsafe { set.assume_init() }
}

/// `SIGPIPE` and no other.
pub(super) fn only_broken_pipe() -> libc::sigset_t {
    let mut set = empty();
    // SAFETY: the set is initialised, and the signal exists.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGPIPE) };
    set
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nigh_testkit::Child;

    use super::*;
    use crate::moving::{MoveError, Pipe, send_file, splice, vmsplice};
    use crate::{MemoryFile, UnixStream};

    #[test]
    fn a_program_that_takes_broken_pipes_is_not_killed() {
        let child = Child::test("sys::signal::tests::broken_pipe_child");
        child.run().assert_success();
    }

    #[tokio::test]
    #[ignore = "runs as a child of a_program_that_takes_broken_pipes_is_not_killed"]
    async fn broken_pipe_child() {
        assert!(is_ignored());
        // SAFETY: the default action is no function of ours; this process has one test.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        assert!(!is_ignored());
        let (a, _) = UnixStream::pair().unwrap();
        let mut memory = MemoryFile::create("unread").unwrap();
        memory.write_all(b"x").unwrap();
        let pipe = Pipe::new().unwrap();
        vmsplice((&b"x"[..]).into(), pipe.writer()).unwrap();
        for refused in [
            send_file(&a, &memory, 0, 1),
            a.send_file(&memory, 0, 1).await,
            splice(pipe.reader(), &a, 1),
        ] {
            assert!(matches!(refused, Err(MoveError::Closed(_))), "{refused:?}");
        }
        assert!(!is_pending());
    }
}
