//! Integration tests of nigh-socket, one binary.

mod bind;
mod bind_existing;
mod bind_files;
mod bind_process;
mod connect;
mod front;
mod identity;
mod identity_namespaces;
mod introspect;
mod messages;
mod packets;
mod servers;
