//! `nigh tap` behind its arguments: a proxy between a listener and an address, and what it saw.
//!
//! ```text
//! client ─► Front ─► Link ═══ bytes, packets, descriptors as they are ═══► server
//!                     └─ copies ─► decode (pure) ─► Log ─► standard output
//! ```

pub mod decode;
pub(crate) mod log;
mod placed;
pub(crate) mod proxy;
mod unshare;
