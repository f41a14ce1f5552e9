//! Tests of nigh-drpc from outside: golden vectors, violations, properties, and real sockets.

mod bytes_of;
mod calling;
mod clock;
mod faults;
mod first_packet;
mod golden;
mod harness;
mod properties;
mod replaced;
mod rows;
mod servers;
mod serving;
mod sharing;
mod stubs;
mod threads;
mod violations;
