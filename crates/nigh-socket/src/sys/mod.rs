//! The only unsafe code of the workspace: each file wraps one group of system calls and returns owned, checked values.
//!
//! A `SAFETY` comment says which precondition is met and by what. Whatever can be parsed in safe code is parsed elsewhere.
#![expect(
    unsafe_code,
    reason = "system calls that rustix and tokio offer no safe form of"
)]

pub(crate) mod batch;
pub(crate) mod inherit;
pub(crate) mod map;
pub(crate) mod msg;
pub(crate) mod nss;
pub(crate) mod ofd;
pub(crate) mod opt;
pub(crate) mod pidfd;
#[cfg(test)]
pub(crate) mod raced;
pub(crate) mod receive;
pub(crate) mod register;
pub(crate) mod shared;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod splice;
