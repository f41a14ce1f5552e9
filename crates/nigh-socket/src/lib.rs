//! Unix sockets held right: addresses, bind life cycle, kernel-verified identity, policy, admission and drain.

mod address;
mod stream;
mod sys;

pub use address::{
    ABSTRACT_BYTES_MAX, Address, AddressError, AddressFault, HOST_BYTES_MAX, Listen,
    PATH_BYTES_MAX, Role,
};
pub use stream::{Stream, UnixStream};
