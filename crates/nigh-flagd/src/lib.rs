//! A feature-flag daemon that speaks flagd's protocols on a Unix socket.
//!
//! ```text
//! sources ─► model (checked flags) ─► store (layers, one view) ─► service (gRPC, Connect, gRPC-Web, OFREP, sync)
//!                                                        └─► eval (flag + context = answer)
//! ```
//! Listeners, policies, quotas and draining are [`nigh::Server`]'s.

pub mod cli;
pub mod eval;
pub mod model;
pub mod service;
pub mod source;
pub mod store;
pub mod value;
