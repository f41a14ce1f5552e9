//! The authority fix: puts an `:authority` that h2 accepts where a client sent a socket path. Pure: bytes in, bytes out.
//!
//! gRPC clients that are told to connect to a Unix socket send its path as `:authority`, percent-encoded (C core, so
//! Python) or plain (Java, Swift). `http::uri::Authority` parses neither, and h2 resets the stream. Here such a value
//! becomes `localhost`, or `x` if it is shorter than that; [`hpack`](super::hpack) says why it may not get longer.
//! Everything else passes as it came, malformed bytes too: refusing them is h2's task, and it does so with the right
//! error. An empty authority stays, and stays refused.
//!
//! Who is watched: a client makes its authority from the target once per connection, so one whose first header block
//! has a good authority, or none, is trusted, and from then on its bytes are not looked at. Should it send a bad one later,
//! h2 refuses that call as it would without us. A client whose first one was bad is watched to the end, because
//! its encoder sends the literal again whenever the table has lost it.
//!
//! Trap: the length of a frame stands before its content, so a header block that is not whole yet is held back; never more
//! than [`HELD_BYTES_MAX`].

use super::frames::{Frame, HEAD_BYTES, Head, Kind};
use super::hpack::{Edit, Findings, Table};

/// What a client sends before its first frame (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes held back, frame heads and padding included: 64 KiB. hyper lets a header list have 16 KiB, and h2 ends a
/// connection that sends four times as much, so a block beyond this is passed on for h2 to refuse and the watch ends.
pub(crate) const HELD_BYTES_MAX: usize = 64 * 1024;

/// The state of one connection, client to server. Costs one pointer once the watch has ended.
#[derive(Debug)]
pub(crate) struct AuthorityFix {
    watch: Option<Box<Watch>>,
}

impl AuthorityFix {
    /// For a connection of which no byte has been read; the preface comes first.
    pub(crate) fn new() -> Self {
        Self {
            watch: Some(Box::new(Watch {
                phase: Phase::Preface { seen: 0 },
                held: Vec::new(),
                frame_at: 0,
                stream: 0,
                table: Table::new(),
                is_suspect: false,
            })),
        }
    }

    /// Whether bytes still have to go through [`feed`](Self::feed). Once `false`, it stays so and nothing is held.
    pub(crate) fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    /// Takes the client's next bytes. Returns how many at the start of `input` pass as they are; what comes after
    /// those is appended to `out`, or held until more arrives.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut flow = Flow {
            rest: input,
            passed: 0,
            diverted: false,
            out,
        };
        while !flow.rest.is_empty() {
            let Some(watch) = &mut self.watch else {
                flow.pass(usize::MAX);
                break;
            };
            if watch.step(&mut flow).is_err() {
                self.finish_into(&mut flow);
            }
        }
        flow.passed
    }

    /// The client sends no more: appends what was held, as it came.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(watch) = self.watch.take() {
            out.extend_from_slice(&watch.held);
        }
    }

    fn finish_into(&mut self, flow: &mut Flow<'_>) {
        if let Some(watch) = self.watch.take() {
            flow.emit(&watch.held);
        }
    }
}

/// The watch is over, for good or ill: what is held and all that follows passes as it is.
#[derive(Debug)]
struct EndOfWatch;

#[derive(Debug)]
enum Phase {
    /// `seen` bytes of the preface have passed.
    Preface { seen: usize },
    /// At a frame head, or within frames that are held.
    Frame,
    /// `left` bytes of a frame without header block have yet to pass.
    Skip { left: usize },
}

#[derive(Debug)]
struct Watch {
    phase: Phase,
    /// The frames of a header block that is not whole yet, or the first bytes of a frame head.
    held: Vec<u8>,
    /// Where in `held` the last frame begins; above 0 a header block is open.
    frame_at: usize,
    /// The stream of the open header block.
    stream: u32,
    table: Table,
    /// The first header block had a bad authority, or an empty one.
    is_suspect: bool,
}

impl Watch {
    /// Does one thing with at least one byte of `flow.rest`.
    fn step(&mut self, flow: &mut Flow<'_>) -> Result<(), EndOfWatch> {
        match self.phase {
            Phase::Preface { seen } => {
                let expected = PREFACE.get(seen..).unwrap_or_default();
                let count = expected.len().min(flow.rest.len());
                if expected.get(..count) != flow.rest.get(..count) {
                    return Err(EndOfWatch);
                }
                flow.pass(count);
                self.phase = if count == expected.len() {
                    Phase::Frame
                } else {
                    Phase::Preface { seen: seen + count }
                };
                Ok(())
            }
            Phase::Skip { left } => {
                let count = left.min(flow.rest.len());
                flow.pass(count);
                self.skip(left - count);
                Ok(())
            }
            Phase::Frame if self.held.is_empty() => self.step_in_place(flow),
            Phase::Frame => self.step_held(flow),
        }
    }

    /// At the start of a frame: what is whole in the input is not copied unless it changes.
    fn step_in_place(&mut self, flow: &mut Flow<'_>) -> Result<(), EndOfWatch> {
        let Some(head) = Head::parse(flow.rest) else {
            return self.hold(flow, HEAD_BYTES);
        };
        if !self.carries_block(&head)? {
            self.skip(head.frame_bytes());
            return Ok(());
        }
        match flow.rest.get(..head.frame_bytes()) {
            Some(frame) if head.ends_block() => match self.read_block(frame)? {
                None => flow.pass(frame.len()),
                Some(fixed) => {
                    flow.take(frame.len());
                    flow.emit(&fixed);
                }
            },
            _ => return self.hold(flow, head.frame_bytes()),
        }
        Ok(())
    }

    /// With bytes held: takes what is missing of a frame head, then of the frame.
    fn step_held(&mut self, flow: &mut Flow<'_>) -> Result<(), EndOfWatch> {
        let last = self.held.get(self.frame_at..).unwrap_or_default();
        let whole = Head::parse(last).map_or(HEAD_BYTES, |head| head.frame_bytes());
        self.hold(flow, whole - last.len())
    }

    /// Moves up to `count` bytes out of the input, and decides about the last held frame once its head, then all of it, is
    /// there.
    fn hold(&mut self, flow: &mut Flow<'_>, count: usize) -> Result<(), EndOfWatch> {
        self.held.extend_from_slice(flow.take(count));
        let last = self.held.get(self.frame_at..).unwrap_or_default();
        let Some(head) = Head::parse(last) else {
            return Ok(());
        };
        let is_whole = last.len() == head.frame_bytes();
        if !self.carries_block(&head)? {
            flow.emit(&std::mem::take(&mut self.held));
            self.skip(head.length);
            return Ok(());
        }
        if !is_whole {
            return Ok(());
        }
        if !head.ends_block() {
            self.frame_at = self.held.len();
            self.stream = head.stream;
            return Ok(());
        }
        self.frame_at = 0;
        let frames = std::mem::take(&mut self.held);
        let fixed = self.read_block(&frames);
        // Emitted first: when the watch ends here, the frames pass as they came.
        match &fixed {
            Ok(Some(fixed)) => flow.emit(fixed),
            _ => flow.emit(&frames),
        }
        fixed.map(|_| ())
    }

    /// Whether the next frame is part of a header block. An error if it may not stand here or is too long to hold.
    fn carries_block(&self, head: &Head) -> Result<bool, EndOfWatch> {
        let is_open = self.frame_at > 0;
        match head.kind {
            Kind::Other if !is_open => return Ok(false),
            Kind::Headers if !is_open => {}
            Kind::Continuation if is_open && head.stream == self.stream => {}
            _ => return Err(EndOfWatch),
        }
        if self.frame_at + head.frame_bytes() > HELD_BYTES_MAX {
            return Err(EndOfWatch);
        }
        Ok(true)
    }

    /// Reads the block in `frames`, all of it. The frames to send instead, if anything had to change.
    fn read_block(&mut self, frames: &[u8]) -> Result<Option<Vec<u8>>, EndOfWatch> {
        let (first, after) = Frame::cut(frames).ok_or(EndOfWatch)?;
        let joined;
        let block = if after.is_empty() {
            first.fragment()
        } else {
            joined = join(frames)?;
            &joined
        };
        let Findings { edits, empty } = self.table.read(block).map_err(|_| EndOfWatch)?;
        if edits.is_empty() && !empty && !self.is_suspect {
            return Err(EndOfWatch);
        }
        self.is_suspect = true;
        if edits.is_empty() {
            return Ok(None);
        }
        let fixed = apply(block, &edits);
        let mut out = Vec::with_capacity(frames.len());
        let mut left = fixed.as_slice();
        let mut rest = frames;
        while let Some((frame, after)) = Frame::cut(rest) {
            left = frame.write_with(left, &mut out);
            rest = after;
        }
        Ok(Some(out))
    }

    fn skip(&mut self, left: usize) {
        self.phase = if left == 0 {
            Phase::Frame
        } else {
            Phase::Skip { left }
        };
    }
}

/// The header block that several frames carry.
fn join(frames: &[u8]) -> Result<Vec<u8>, EndOfWatch> {
    let mut block = Vec::with_capacity(frames.len());
    let mut rest = frames;
    while !rest.is_empty() {
        let (frame, after) = Frame::cut(rest).ok_or(EndOfWatch)?;
        block.extend_from_slice(frame.fragment());
        rest = after;
    }
    Ok(block)
}

fn apply(block: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut fixed = Vec::with_capacity(block.len());
    let mut at = 0;
    for edit in edits {
        fixed.extend_from_slice(block.get(at..edit.range.start).unwrap_or_default());
        fixed.extend_from_slice(edit.by);
        at = edit.range.end;
    }
    fixed.extend_from_slice(block.get(at..).unwrap_or_default());
    fixed
}

/// One call's input on its way to the output.
struct Flow<'a> {
    rest: &'a [u8],
    /// Bytes at the start of the input that pass as they are.
    passed: usize,
    /// Something was held or emitted: what passes from here on has to be copied behind it.
    diverted: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Flow<'a> {
    fn pass(&mut self, count: usize) {
        let (head, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        if self.diverted {
            self.out.extend_from_slice(head);
        } else {
            self.passed += head.len();
        }
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        self.diverted = true;
        let (head, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        head
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.diverted |= !bytes.is_empty();
        self.out.extend_from_slice(bytes);
    }
}
