//! Open files inside calls, between two nigh ends: what is attached arrives, where it belongs, or the call fails.

mod association;
mod ends;
mod kinds;
mod limits;
mod service;
