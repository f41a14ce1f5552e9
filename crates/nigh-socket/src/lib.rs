//! Unix sockets held right: addresses, bind life cycle, kernel-verified identity, policy, admission and drain.

mod address;
mod inherit;
mod listener;
mod publish;
mod stream;
mod sys;
mod users;

pub use address::{
    ABSTRACT_BYTES_MAX, Address, AddressError, AddressFault, HOST_BYTES_MAX, Listen,
    PATH_BYTES_MAX, Role,
};
pub use inherit::{FoundKind, InheritedError};
pub use listener::{
    BindError, BindFault, Existing, Listener, ListenerOptions, Operation, SocketKind,
};
pub use publish::entry::FileKind;
pub use publish::lock::LockError;
pub use publish::{UnpublishError, UnpublishFault};
pub use stream::{Stream, UnixStream};
