//! Takes the extension frames out of the bytes that come in, and says at which offset each began.
//!
//! Everything else passes unchanged and, but for a frame head cut by the end of a read, undelayed.

use super::frame::{Frame, HEAD_BYTES, Malformed, PAYLOAD_BYTES_MAX, PONG, TYPE};

/// Something taken out of the stream, or seen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// One of our frames, or what looks like one; it began at this offset of the stream.
    Ours {
        at: u64,
        frame: Result<Frame, Malformed>,
    },
    /// The answer to our PING.
    Pong,
}

#[derive(Debug)]
enum State {
    /// Bytes of the client's preface that are still to come.
    Preface(usize),
    /// A head of which this much is here, held back.
    Head {
        held: [u8; HEAD_BYTES],
        length: usize,
    },
    /// Bytes of somebody else's payload still to come.
    Passing(usize),
    /// A whole frame is being collected: ours, or a PING that may be the answer to ours.
    Collecting { frame: Vec<u8>, left: usize },
}

/// The reader's place in a stream of HTTP/2 frames.
#[derive(Debug)]
pub(super) struct Incoming {
    state: State,
    /// Offset of the next byte to come.
    offset: u64,
    /// Frames whose heads are complete.
    frames: u64,
}

impl Incoming {
    /// For the bytes of a client, preface included, or of a server.
    pub(super) fn new(preface_bytes: usize) -> Self {
        let state = match preface_bytes {
            0 => EMPTY,
            left => State::Preface(left),
        };
        Self {
            state,
            offset: 0,
            frames: 0,
        }
    }

    /// Frames, ours included, whose heads have come completely.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// No byte before this offset belongs to a frame whose kind is not known yet.
    pub(super) fn settled(&self) -> u64 {
        let held = match &self.state {
            State::Head { length, .. } => *length,
            State::Collecting { frame, .. } => frame.len(),
            State::Preface(_) | State::Passing(_) => 0,
        };
        self.offset - held as u64
    }

    /// Whether bytes that came are being held back.
    pub(super) fn holds(&self) -> bool {
        self.settled() < self.offset
    }

    /// Takes what has come. The first bytes of `fresh`, as many as returned, pass where they stand; what passes after
    /// them is appended to `out`.
    pub(super) fn feed(
        &mut self,
        fresh: &[u8],
        out: &mut Vec<u8>,
        found: &mut Vec<Found>,
    ) -> usize {
        let mut passer = Passer {
            out,
            passed: 0,
            in_place: true,
        };
        let mut at = 0;
        while let Some(rest) = fresh.get(at..).filter(|rest| !rest.is_empty()) {
            at += self.step(rest, at, &mut passer, found);
        }
        passer.passed
    }

    /// Takes some of `rest`, which begins `at` in what was fed.
    fn step(
        &mut self,
        rest: &[u8],
        at: usize,
        passer: &mut Passer<'_>,
        found: &mut Vec<Found>,
    ) -> usize {
        let taken = match &mut self.state {
            State::Preface(left) | State::Passing(left) => {
                let taken = rest.len().min(*left);
                passer.pass(at, &rest[..taken]);
                *left -= taken;
                if *left == 0 {
                    self.state = EMPTY;
                }
                taken
            }
            State::Head { held, length } => {
                let taken = rest.len().min(HEAD_BYTES - *length);
                let room = &mut held[*length..*length + taken];
                room.copy_from_slice(&rest[..taken]);
                *length += taken;
                if *length < HEAD_BYTES {
                    passer.in_place = false;
                } else {
                    let head = *held;
                    self.begin(head, at, taken, passer);
                }
                taken
            }
            State::Collecting { frame, left } => {
                let taken = rest.len().min(*left);
                frame.extend_from_slice(&rest[..taken]);
                *left -= taken;
                taken
            }
        };
        self.offset += taken as u64;
        self.complete(passer, found);
        taken
    }

    /// Decides what a complete head begins.
    fn begin(&mut self, head: [u8; HEAD_BYTES], at: usize, taken: usize, passer: &mut Passer<'_>) {
        self.frames += 1;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let ours = kind == TYPE && length <= PAYLOAD_BYTES_MAX && flags == 0;
        let pong = head == PONG[..HEAD_BYTES];
        if (ours && stream == [0; 4]) || pong {
            passer.in_place = false;
            self.state = State::Collecting {
                frame: head.to_vec(),
                left: length,
            };
            return;
        }
        if taken == HEAD_BYTES {
            passer.pass(at, &head);
        } else {
            passer.append(&head);
        }
        self.state = match length {
            0 => EMPTY,
            left => State::Passing(left),
        };
    }

    fn complete(&mut self, passer: &mut Passer<'_>, found: &mut Vec<Found>) {
        let State::Collecting { frame, left: 0 } = &self.state else {
            return;
        };
        let frame = frame.clone();
        if frame == PONG {
            found.push(Found::Pong);
        } else if frame.get(3) == Some(&TYPE) {
            found.push(Found::Ours {
                at: self.offset - frame.len() as u64,
                frame: Frame::parse(frame.get(HEAD_BYTES..).unwrap_or_default()),
            });
        } else {
            passer.append(&frame);
        }
        self.state = EMPTY;
    }
}

const EMPTY: State = State::Head {
    held: [0; HEAD_BYTES],
    length: 0,
};

/// Where passing bytes go: they stay where they are until the first one has to move.
struct Passer<'a> {
    out: &'a mut Vec<u8>,
    passed: usize,
    in_place: bool,
}

impl Passer<'_> {
    fn pass(&mut self, at: usize, bytes: &[u8]) {
        if self.in_place && at == self.passed {
            self.passed += bytes.len();
        } else {
            self.append(bytes);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.in_place = false;
        self.out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Fds, PING};
    use super::*;
    use proptest::prelude::*;

    fn foreign(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 1]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn ours(call: u64) -> Frame {
        Frame::Fds(Fds {
            call,
            first: 0,
            count: 1,
            loss: 0,
        })
    }

    #[derive(Debug, Clone)]
    enum Part {
        Foreign(u8, Vec<u8>),
        Ours(u64),
        Pong,
        Ping,
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let payload = proptest::collection::vec(any::<u8>(), 0..80);
        proptest::collection::vec(
            prop_oneof![
                (
                    any::<u8>().prop_filter("ours", |kind| *kind != TYPE),
                    payload
                )
                    .prop_map(|(kind, payload)| Part::Foreign(kind, payload)),
                any::<u64>().prop_map(Part::Ours),
                Just(Part::Pong),
                Just(Part::Ping),
            ],
            0..12,
        )
    }

    proptest! {
        /// However the bytes are cut, what passes and what is found are the same.
        #[test]
        fn any_split_gives_the_same(parts in parts(), cuts in proptest::collection::vec(1_usize..40, 1..60)) {
            let (mut stream, mut expected, mut wanted) = (vec![7; 24], vec![7; 24], Vec::new());
            for part in parts {
                match part {
                    Part::Foreign(kind, payload) => {
                        stream.extend(foreign(kind, &payload));
                        expected.extend(foreign(kind, &payload));
                    }
                    Part::Ours(call) => {
                        wanted.push(Found::Ours { at: stream.len() as u64, frame: Ok(ours(call)) });
                        stream.extend(ours(call).encode());
                    }
                    Part::Pong => {
                        wanted.push(Found::Pong);
                        stream.extend(PONG);
                    }
                    Part::Ping => {
                        stream.extend(PING);
                        expected.extend(PING);
                    }
                }
            }
            let mut incoming = Incoming::new(24);
            let (mut passed, mut found, mut rest) = (Vec::new(), Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (fresh, later) = rest.split_at(rest.len().min(*cut));
                let mut out = Vec::new();
                let count = incoming.feed(fresh, &mut out, &mut found);
                passed.extend_from_slice(&fresh[..count]);
                passed.extend(out);
                prop_assert!(incoming.settled() <= (stream.len() - later.len()) as u64);
                rest = later;
            }
            prop_assert_eq!(passed, expected);
            prop_assert_eq!(found, wanted);
            prop_assert!(!incoming.holds());
        }
    }

    #[test]
    fn a_stream_without_our_frames_is_not_copied() {
        let mut incoming = Incoming::new(0);
        let bytes = [foreign(0, &[1; 100]), foreign(1, &[2; 50])].concat();
        let (mut out, mut found) = (Vec::new(), Vec::new());
        assert_eq!(incoming.feed(&bytes, &mut out, &mut found), bytes.len());
        assert!(out.is_empty() && found.is_empty());
    }

    #[test]
    fn another_ping_of_the_same_shape_passes() {
        let mut incoming = Incoming::new(0);
        let mut other = PONG;
        other[16] = b'x';
        let (mut out, mut found) = (Vec::new(), Vec::new());
        assert_eq!(incoming.feed(&other, &mut out, &mut found), 0);
        assert_eq!(out, other);
        assert!(found.is_empty());
    }
}
