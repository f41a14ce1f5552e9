//! RPC for processes that share a machine: tonic services on Unix sockets, with callers the kernel
//! vouches for.
//!
//! ```text
//! Listener ─► nigh_socket::Front (admission, quota, drain) ─► TLS? ─► wire ─► Calls (guard, deadline) ─► handler
//! ```
//! A [`Server`] serves unchanged tonic services to every gRPC client on the machine; a [`Channel`]
//! goes under every generated tonic client. Handlers ask [`request.peer()`](RequestExt::peer) who called.

mod channel;
mod codec;
mod deadline;
mod fd;
mod frame;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http2;
mod io;
mod limits;
mod link;
mod peer;
mod server;
mod shared_memory;
mod tasks;
mod tls;
mod wire;

pub use channel::{Channel, ChannelError, ChannelOptions, Wire};
pub use codec::{ProstCodec, ProstDecoder, ProstEncoder};
pub use fd::{
    AttachError, BadInodeUrl, Descriptors, DescriptorsExt, FdIndex, FdLimits, Incapable, InodeUrl,
    Loss, SealedError, TakeError, UnsentError, reopen, sealed,
};
pub use limits::{Http1Limits, Http2Limits, Limits, NighLimits};
pub use nigh_socket::Spin;
pub use nigh_socket::handover::{HandoverError, HandoverOptions, Succession};
pub use nigh_socket::systemd::{Notifier, NotifyError};
pub use nigh_socket::{
    Address, AddressError, BindError, BindFault, Counters, Counts, Drained, Existing, FileKind,
    Listener, ListenerOptions, LocalPeer, Mapping, MemoryFile, Peer, Policy, SealedFile,
    SocketKind, fdcheck,
};
pub use peer::{Arrival, RequestExt, ResponseExt};
pub use server::{Server, ServerError};
pub use shared_memory::SharedMemory;
pub use tls::{ClientTls, ServerTls, TlsError};
