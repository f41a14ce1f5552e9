//! Unix sockets held right: addresses, bind life cycle, kernel-verified identity, policy, admission and drain.
//!
//! ```text
//! bytes ─► Listener ─► Incoming ─admit(&Policy)─► Connection{Peer} ─► a protocol
//!                         └─► Refusal (counted, logged at a bounded rate; accepting goes on)
//! ```
//! A [`Listener`] owns a name and gives it back; an [`Acceptor`] yields callers whatever goes wrong
//! with one of them; a [`Policy`] decides on a [`Peer`] that the kernel vouches for; a [`Front`] does
//! all of it for several listeners and protocols under one quota and one drain.

mod accept;
mod address;
pub mod blocking;
mod buffer;
mod cgroup;
mod cmsg;
mod connect;
mod counters;
mod datagram;
mod drain;
mod facilities;
mod fact;
pub mod fdcheck;
mod front;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
pub mod handover;
mod incoming;
mod inherit;
mod inode;
pub mod introspect;
mod journal;
mod kinds;
pub mod lane;
mod limits;
mod listener;
mod memory;
mod message;
pub mod moving;
mod open;
mod options;
mod peer;
mod policy;
mod process;
mod publish;
mod quota;
mod registered;
mod seqpacket;
mod share;
mod singleton;
pub mod spawn;
mod spin;
mod stream;
mod sys;
pub mod systemd;
mod users;

pub use accept::{AcceptError, Acceptor};
pub use address::{
    ABSTRACT_BYTES_MAX, Address, AddressError, AddressFault, DESCRIPTOR_NAME_BYTES_MAX,
    HOST_BYTES_MAX, Listen, PATH_BYTES_MAX, Role,
};
pub use cgroup::Unit;
pub use connect::{
    Cause, ConnectError, ConnectFault, ConnectOperation, ConnectOptions, RefusedServer, connect,
    connect_fd, connect_packet, resolve,
};
pub use counters::{Counters, Counts};
pub use datagram::UnixDatagram;
pub use drain::{Drain, DrainReason};
pub use facilities::{Facility, Offer, facilities};
pub use fact::{Fact, Source, Why};
pub use front::{Drained, Front, FrontError, Protocol, Serving};
pub use guard::Guard;
pub use incoming::{Connection, Hold, Incoming, Refusal, Refused, Transport};
pub use inherit::{FoundKind, InheritedError};
pub use inode::Inode;
pub use journal::Journal;
pub use kinds::{ByteStream, MessageSocket};
pub use limits::Limits;
pub use listener::{
    BindError, BindFault, Existing, Listener, ListenerOptions, Operation, SocketKind,
};
pub use memory::{Mapping, MemoryFile, SealedFile};
pub use message::{
    Batch, Blame, Chunk, Cork, Datagram, Filled, Outgoing, Packet, Peeked, Received, RecvError,
    SendError, Sender, Stop,
};
pub use open::{open_beneath, open_path};
pub use peer::{LocalPeer, Peer, RemotePeer, TlsPeer};
pub use policy::{
    POLICY_BYTES_MAX, POLICY_DEPTH_MAX, Policy, PolicyError, PolicyFault, Truth, Verdict,
};
pub use process::{Detail, Ids, Process, ProcessError, ProcessInfo};
pub use publish::entry::FileKind;
pub use publish::lock::LockError;
pub use publish::{PublishedError, PublishedFault, UnpublishError, UnpublishFault};
pub use quota::QuotaExceeded;
pub use seqpacket::UnixSeqpacket;
pub use share::{DescriptorCharge, DescriptorShare, DescriptorsExceeded};
pub use singleton::{Claim, Instance, Running, Singleton, SingletonError};
pub use spin::Spin;
pub use stream::{Stream, UnixStream};
pub use users::{UserError, gid_of, group_name, uid_of, user_name};
