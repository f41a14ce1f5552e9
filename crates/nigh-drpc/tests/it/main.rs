//! Tests of nigh-drpc from outside: golden vectors, violations, properties, and real sockets.

mod again;
mod bytes_of;
mod calling;
mod clock;
mod faults;
mod first_packet;
mod golden;
mod harness;
mod left;
mod properties;
mod replaced;
mod rows;
mod servers;
mod serving;
mod sharing;
mod stubs;
mod threads;
mod violations;
