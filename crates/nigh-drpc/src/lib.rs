//! dRPC, the module/method calls of DAOS over sequenced packets.
//!
//! ```text
//! packets ─► detector ─► assembler ─► Call ─guard─► handler ─► Response ─► chunks ─► packets
//! ```
//! [`wire`] is the protocol by value, specified in `docs/wire/drpc.md`; [`modules`] are DAOS's own tables.

pub mod modules;
pub mod wire;
