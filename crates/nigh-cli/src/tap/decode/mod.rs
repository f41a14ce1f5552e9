//! What went by on a connection, in words: bytes and packets to notes. Pure; nothing that a peer sends can make it fail.
//!
//! Trap: a decoder sees bytes of strangers and outlives none of them: everything it keeps is bounded by a constant.

mod calls;
mod drpc;
mod grpc;
mod hpack;
mod http1;
mod http2;
mod nigh;
mod note;
mod packets;
mod stream;
#[cfg(test)]
mod tests;

pub use note::{Note, Side, hex, unhex};
pub use packets::Packets;
pub use stream::Bytes;
