//! Where the memory of every variant comes from.

#[cfg(not(feature = "mimalloc"))]
mod glibc;
#[cfg(feature = "mimalloc")]
mod mimalloc;

#[cfg(not(feature = "mimalloc"))]
pub(crate) use glibc::NAME;
#[cfg(feature = "mimalloc")]
pub(crate) use mimalloc::NAME;
