//! Unix sockets held right: addresses, bind life cycle, kernel-verified identity, policy, admission and drain.

mod address;
mod cgroup;
mod fact;
mod inherit;
pub mod introspect;
mod listener;
mod peer;
mod policy;
mod process;
mod publish;
mod stream;
mod sys;
mod users;

pub use address::{
    ABSTRACT_BYTES_MAX, Address, AddressError, AddressFault, HOST_BYTES_MAX, Listen,
    PATH_BYTES_MAX, Role,
};
pub use cgroup::Unit;
pub use fact::{Fact, Source, Why};
pub use inherit::{FoundKind, InheritedError};
pub use listener::{
    BindError, BindFault, Existing, Listener, ListenerOptions, Operation, SocketKind,
};
pub use peer::{LocalPeer, Peer, RemotePeer, TlsPeer};
pub use policy::{
    POLICY_BYTES_MAX, POLICY_DEPTH_MAX, Policy, PolicyError, PolicyFault, Truth, Verdict,
};
pub use process::{Detail, Ids, Process, ProcessError, ProcessInfo};
pub use publish::entry::FileKind;
pub use publish::lock::LockError;
pub use publish::{UnpublishError, UnpublishFault};
pub use stream::{Stream, UnixStream};
pub use users::{UserError, gid_of, group_name, uid_of, user_name};
