//! The HTTP/2 wire, server side: what stands between a client's bytes and h2.

pub(crate) mod authority;
mod frames;
mod hpack;
pub(crate) mod io;
#[cfg(test)]
mod tests;
