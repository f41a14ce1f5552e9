//! Tests of nigh-drpc from outside: golden vectors, violations, properties, and real sockets.

mod bytes_of;
mod first_packet;
mod golden;
mod harness;
mod properties;
mod serving;
mod violations;
