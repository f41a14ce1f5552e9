//! Tests that this machine or user cannot run say so, and fail where `NIGH_TEST_STRICT=1` (CI) demands every test.
//!
//! Trap: libtest captures `eprintln!` of a passing test, so the line is written to the descriptor itself.

use std::fs::OpenOptions;
use std::io::Write;

/// Whether this process may become another user.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Leaves the test early, aloud, unless the condition holds. See [`skip`].
#[macro_export]
macro_rules! skip_unless {
    ($condition:expr, $reason:expr $(,)?) => {
        if !$condition {
            $crate::skip($reason);
            return;
        }
    };
}

/// Leaves the test early, aloud, unless it runs as root and can start children under other users.
#[macro_export]
macro_rules! require_root {
    () => {
        $crate::skip_unless!($crate::is_root(), "needs root to become another user")
    };
}

/// Says on standard error that this test is left out and why; appends the same to the file named by `NIGH_SKIP_LOG`.
///
/// # Panics
/// When `NIGH_TEST_STRICT` is `1`: there a test that is left out is a failed test.
pub fn skip(reason: impl AsRef<str>) {
    let thread = std::thread::current();
    let line = format!(
        "SKIPPED {}: {}\n",
        thread.name().unwrap_or("unnamed test"),
        reason.as_ref()
    );
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error");
    if let Some(log) = std::env::var_os("NIGH_SKIP_LOG") {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the file named by NIGH_SKIP_LOG");
        log.write_all(line.as_bytes()).expect("the skip log");
    }
    assert!(
        std::env::var_os("NIGH_TEST_STRICT").is_none_or(|strict| strict != "1"),
        "{line}NIGH_TEST_STRICT=1 demands that every test runs"
    );
}
