//! Where in the bytes that go out a frame of ours may stand: between frames, never inside a header block [2.4].

use super::frame::HEAD_BYTES;

const HEADERS: u8 = 0x1;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// The writer's place in a stream of HTTP/2 frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing {
    /// Bytes of the preface, or of a payload, that are still to go.
    left: usize,
    head: [u8; HEAD_BYTES],
    head_length: usize,
    /// Between a HEADERS frame and the end of its block only its CONTINUATION may follow (RFC 9113 §6.10).
    in_block: bool,
    /// Whether the first frame has gone: nothing may stand before the SETTINGS of either side (§3.4).
    settled: bool,
}

impl Outgoing {
    /// For the bytes of a client, preface included, or of a server.
    pub(super) fn new(preface_bytes: usize) -> Self {
        Self {
            left: preface_bytes,
            head: [0; HEAD_BYTES],
            head_length: 0,
            in_block: false,
            settled: false,
        }
    }

    /// Whether a frame of ours may be written now.
    pub(super) fn is_boundary(&self) -> bool {
        self.left == 0 && self.head_length == 0 && !self.in_block && self.settled
    }

    /// Follows bytes that have been written.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// How many of `bytes` have to go before a frame of ours may; all of them if it may not in between.
    pub(super) fn until_boundary(mut self, bytes: &[u8]) -> usize {
        let mut gone = 0;
        while !self.is_boundary() && gone < bytes.len() {
            gone += self.step(bytes.get(gone..).unwrap_or_default());
        }
        gone
    }

    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let taken = bytes.len().min(self.left);
            self.left -= taken;
            return taken;
        }
        let taken = bytes.len().min(HEAD_BYTES - self.head_length);
        let room = &mut self.head[self.head_length..self.head_length + taken];
        room.copy_from_slice(&bytes[..taken]);
        self.head_length += taken;
        if self.head_length == HEAD_BYTES {
            let [a, b, c, kind, flags, ..] = self.head;
            self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            self.head_length = 0;
            self.settled = true;
            if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
                self.in_block = flags & END_HEADERS == 0;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEAD_BYTES + length, 0xff);
        bytes
    }

    #[test]
    fn a_header_block_is_not_divided() {
        let parts = [
            (vec![0; 24], false),
            (frame(4, 0, 6), true),
            (frame(1, 0, 30), false),
            (frame(9, 0, 5), false),
            (frame(9, 4, 5), true),
            (frame(0, 1, 0), true),
            (frame(1, 4, 1), true),
        ];
        let mut outgoing = Outgoing::new(24);
        for (bytes, boundary) in &parts {
            outgoing.advance(bytes);
            assert_eq!(outgoing.is_boundary(), *boundary);
        }
        let block: Vec<u8> = parts[2..6].iter().flat_map(|part| part.0.clone()).collect();
        let mut outgoing = Outgoing::new(0);
        outgoing.advance(&frame(4, 0, 0));
        outgoing.advance(&block[..3]);
        assert_eq!(outgoing.until_boundary(&block[3..]), 39 + 14 + 14 - 3);
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_boundaries(
            lengths in proptest::collection::vec((0_usize..50, 0_u8..10, any::<u8>()), 1..10),
            cuts in proptest::collection::vec(1_usize..20, 1..20),
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|(length, kind, flags)| frame(*kind, *flags, *length)).collect();
            let boundaries = |cuts: &[usize]| {
                let (mut outgoing, mut at, mut found) = (Outgoing::new(0), 0, Vec::new());
                for cut in cuts.iter().cycle() {
                    if at == bytes.len() {
                        break;
                    }
                    let end = bytes.len().min(at + cut);
                    while at < end {
                        let gone = outgoing.until_boundary(&bytes[at..end]).max(1);
                        outgoing.advance(&bytes[at..at + gone]);
                        at += gone;
                        if outgoing.is_boundary() {
                            found.push(at);
                        }
                    }
                }
                found
            };
            prop_assert_eq!(boundaries(&cuts), boundaries(&[1]));
        }
    }
}
