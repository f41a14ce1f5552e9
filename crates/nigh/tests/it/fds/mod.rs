//! Open files inside calls, between two nigh ends: what is attached arrives, where it belongs, or the call fails.

mod association;
mod checks;
mod elsewhere;
mod ends;
mod frames;
mod inode;
mod kinds;
mod leaks;
mod limits;
mod losses;
mod sealed;
mod service;
mod table;
mod wire;
