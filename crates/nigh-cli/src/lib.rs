//! The `nigh` command as a library: the diagnostic service, the call engine and the commands themselves.
//!
//! `main` only parses the arguments and turns the outcome into an exit code.

pub mod call;
pub mod diag;
