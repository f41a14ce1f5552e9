//! Which wire a connection of packets speaks, and the decoder for it. Pure.

use std::time::Duration;

use super::drpc::Drpc;
use super::note::{Note, Side};

/// Both directions of one connection.
#[derive(Debug)]
pub struct Packets {
    drpc: Option<Drpc>,
    is_known: bool,
    shown_max: usize,
}

impl Packets {
    /// A new connection; `is_drpc` when its listener says so. Of other packets the first `shown_max` bytes are shown.
    #[must_use]
    pub fn new(is_drpc: bool, shown_max: usize) -> Self {
        Self {
            drpc: Some(Drpc::new(shown_max)),
            is_known: is_drpc,
            shown_max,
        }
    }

    /// What the packet that `side` sent `at` that time means: mostly one thing.
    pub fn feed(&mut self, side: Side, packet: &[u8], at: Duration) -> Vec<Note> {
        // Without a word from the listener, only a header is proof: a short packet is easily a call by accident.
        if !self.is_known && !begins_with_header(packet) {
            self.drpc = None;
        }
        self.is_known = true;
        let notes = self
            .drpc
            .as_mut()
            .and_then(|drpc| drpc.feed(side, packet, at));
        notes.unwrap_or_else(|| vec![Note::bytes("packet", packet, self.shown_max)])
    }
}

fn begins_with_header(packet: &[u8]) -> bool {
    use nigh_drpc::wire::{AUTO_MESSAGE_BYTES_MAX, Detector, FirstPacket};
    Detector::new(AUTO_MESSAGE_BYTES_MAX)
        .is_ok_and(|detector| detector.decide(packet) == FirstPacket::Chunked)
}
