//! dRPC, the module/method calls of DAOS over sequenced packets.
//!
//! ```text
//! packets ─► detector ─► assembler ─► Call ─guard─► handler ─► Response ─► chunks ─► packets
//! ```
//! [`wire`] is the protocol by value, specified in `docs/wire/drpc.md`; [`modules`] are DAOS's own tables; a [`Server`]
//! serves [`Modules`], by itself or beside other protocols of one [`Front`](nigh_socket::Front).

mod client;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod link;
pub mod modules;
mod server;
#[doc(hidden)]
pub mod stub;
pub mod wire;

pub use client::{
    BlockingCall, BlockingClient, CallError, Client, ClientOptions, PreparedCall, Reply, Speaks,
    TransportError,
};
pub use limits::Limits;
pub use server::{
    Accepts, Answer, Caller, Failure, Module, Modules, RegisterError, Request, Server, ServerError,
    listener,
};
pub use stub::Typed;
