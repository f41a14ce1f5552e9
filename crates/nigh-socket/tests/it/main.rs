//! Integration tests of nigh-socket, one binary.

mod bind;
mod bind_existing;
mod bind_files;
mod bind_process;
mod connect;
mod datagrams;
mod flood;
mod front;
mod handover;
mod handover_raw;
mod identity;
mod identity_namespaces;
mod introspect;
mod kinds;
mod lanes;
mod memory;
mod messages;
mod moving;
mod packets;
mod peers;
mod published;
mod servers;
mod spawn;
mod stream_descriptors;
mod traps;
