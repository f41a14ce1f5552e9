//! What one call is to do, on both sides, and which ends of it are right.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, StreamBody};
use tonic::body::Body;
use tonic::{Code, Status};

use super::Dice;
use crate::fd::{Descriptors, DescriptorsExt};

/// How the caller behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Wait,
    /// Drops the call after this time.
    Cancel {
        after: Duration,
    },
    /// Drops the call after this time, and had told the server.
    Deadline {
        after: Duration,
    },
    /// Drops the call after some turns.
    GiveUp {
        polls: usize,
    },
    /// Drops the answer after some messages.
    ReadSome {
        messages: u32,
    },
    /// Its request fails in the middle.
    BreakBody,
}

/// How a call ended for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing of it was sent.
    Unsent,
    /// The caller left.
    Left,
    /// Messages came, in order, and then a status.
    Ended {
        messages: u32,
        code: u32,
        text: String,
    },
    /// Messages were lost, doubled or out of order.
    Wrong(String),
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) id: u32,
    pub(super) begins: Duration,
    pub(super) manner: Manner,
    /// Sizes of messages, each way.
    up: Vec<usize>,
    down: Vec<usize>,
    /// Requests that the handler reads before it answers.
    reads: usize,
    /// What the handler's call ends with; 99: it panics instead of answering.
    code: u32,
    /// Pauses of the sender, of the handler and of the reader.
    pauses: [u64; 3],
}

const PANIC: u32 = 99;

fn sizes(dice: &mut Dice) -> Vec<usize> {
    let count = dice.one_of(&[0, 1, 1, 1, 2, 5, 12]);
    (0..count)
        .map(|_| dice.one_of(&[0, 1, 40, 40, 900, 5000]))
        .collect()
}

/// How many files a call brings, and its answer.
pub(super) fn files(id: u32) -> usize {
    usize::try_from(id % 4).unwrap()
}

/// Attaches them: each says whose it is.
pub(super) fn attach(message: &mut impl DescriptorsExt, id: u32) {
    for index in 0..files(id) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        write!(writer, "{id} {index}").unwrap();
        message.attach(reader).unwrap();
    }
}

/// Takes all that came; how many, if they are this call's.
pub(super) fn take(fds: &Descriptors, id: u32) -> Result<usize, String> {
    let came = fds.list();
    for (number, index) in came.iter().enumerate() {
        let fd = fds.take(*index).map_err(|error| error.to_string())?;
        let name = std::io::read_to_string(std::io::PipeReader::from(fd)).unwrap();
        if name != format!("{id} {number}") {
            return Err(format!("the file {name:?} as number {number}"));
        }
    }
    Ok(came.len())
}

impl Plan {
    pub(super) fn new(id: u32, dice: &mut Dice) -> Self {
        let after = Duration::from_micros(dice.one_of(&[1, 700, 3000, 20_000]));
        let manner = match dice.roll(12) {
            0 => Manner::Cancel { after },
            1 => Manner::Deadline {
                after: after.max(Duration::from_millis(1)),
            },
            2 => Manner::GiveUp {
                polls: dice.roll(6),
            },
            3 => Manner::ReadSome {
                messages: u32::try_from(dice.roll(4)).unwrap(),
            },
            4 => Manner::BreakBody,
            _ => Manner::Wait,
        };
        let (up, down) = (sizes(dice), sizes(dice));
        Self {
            id,
            begins: Duration::from_micros(dice.one_of(&[0, 0, 10, 2000, 15_000])),
            manner,
            reads: dice.roll(up.len() + 2),
            up,
            down,
            code: dice.one_of(&[0, 0, 0, 0, 5, PANIC]),
            pauses: [0; 3].map(|_| dice.one_of(&[0, 0, 0, 300, 4000])),
        }
    }

    /// The simplest call.
    pub(super) fn probe(id: u32) -> Self {
        Self {
            id,
            begins: Duration::ZERO,
            manner: Manner::Wait,
            up: vec![10],
            down: vec![10],
            reads: 2,
            code: 0,
            pauses: [0; 3],
        }
    }

    pub(super) fn path(&self) -> String {
        format!("/model/{}", self.id % 6)
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        let down: Vec<String> = self.down.iter().map(ToString::to_string).collect();
        let order = format!(
            "{} {} {} {} {}",
            self.id,
            self.reads,
            self.code,
            self.pauses[1],
            down.join(" ")
        );
        headers.insert("x-order", HeaderValue::from_str(&order).unwrap());
        if let Manner::Deadline { after } = self.manner {
            let timeout = format!("{}u", after.as_micros());
            headers.insert("grpc-timeout", HeaderValue::from_str(&timeout).unwrap());
        }
        headers
    }

    pub(super) fn body(&self) -> Body {
        let end = match self.manner {
            Manner::BreakBody => Some(Err(Status::aborted("broken on purpose"))),
            _ => None,
        };
        body(self.id, &self.up, self.pauses[0], end)
    }

    /// Reads the answer to its end, or as far as planned.
    pub(super) async fn read(&self, response: Response<Body>) -> Outcome {
        let (parts, mut body) = response.into_parts();
        let fds = parts.extensions.get::<Descriptors>().cloned();
        let most = match self.manner {
            Manner::ReadSome { messages } => messages,
            _ => u32::MAX,
        };
        let mut messages = Messages::of(self.id);
        loop {
            if messages.count >= most {
                return Outcome::Left;
            }
            pause(self.pauses[2]).await;
            let ended = |messages: &Messages, status: Status| Outcome::Ended {
                messages: messages.count,
                code: status.code() as u32,
                text: status.message().into(),
            };
            match body.frame().await {
                None => {
                    let status = Status::from_header_map(&parts.headers);
                    return ended(
                        &messages,
                        status.unwrap_or_else(|| Status::unknown("no trailers")),
                    );
                }
                Some(Err(status)) => return ended(&messages, status),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        if let Err(why) = messages.take(&bytes) {
                            return Outcome::Wrong(why);
                        }
                    }
                    Err(frame) => {
                        if !messages.is_whole() {
                            return Outcome::Wrong("trailers in the middle of a message".into());
                        }
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let status = Status::from_header_map(&trailers);
                        // With the last message at the latest all of them are here, whatever was lost on the way.
                        let is_well = status.as_ref().is_some_and(|s| s.code() == Code::Ok);
                        if let (true, Some(fds)) = (is_well, &fds) {
                            let came = take(fds, self.id);
                            if came != Ok(files(self.id)) {
                                return Outcome::Wrong(format!("an answer with {came:?} files"));
                            }
                        }
                        return ended(
                            &messages,
                            status.unwrap_or_else(|| Status::unknown("no status")),
                        );
                    }
                },
            }
        }
    }

    /// Whether this end of the call is one of those that can be.
    pub(super) fn allows(&self, outcome: &Outcome, is_struck: bool) -> Result<(), String> {
        let down = u32::try_from(self.down.len()).unwrap();
        let code_wanted = if self.code == PANIC {
            Code::Internal as u32
        } else {
            self.code
        };
        let (messages, code) = match outcome {
            Outcome::Wrong(why) => return Err(why.clone()),
            Outcome::Unsent if is_struck => return Ok(()),
            Outcome::Unsent => return Err("unsent for no reason".into()),
            Outcome::Left => {
                return match self.manner {
                    Manner::Wait | Manner::BreakBody => Err("nobody left".into()),
                    _ => Ok(()),
                };
            }
            Outcome::Ended { messages, code, .. } => (*messages, *code),
        };
        let is_complete = code == code_wanted && (messages == down || self.code == PANIC);
        let may_be_late = matches!(self.manner, Manner::Deadline { .. });
        let is_allowed = is_complete
            || (may_be_late && code == Code::DeadlineExceeded as u32 && messages <= down)
            || (self.manner == Manner::BreakBody
                && code == Code::Aborted as u32
                && messages <= down)
            || (is_struck && code == Code::Unavailable as u32 && messages <= down);
        is_allowed
            .then_some(())
            .ok_or_else(|| "no such end is allowed".into())
    }
}

/// What a handler is told to do.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) id: u32,
    pub(super) reads: usize,
    pub(super) code: u32,
    pub(super) pause: u64,
    pub(super) down: Vec<usize>,
}

impl Order {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = headers["x-order"].to_str().unwrap();
        let numbers: Vec<u64> = text
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        let size = |number: &u64| usize::try_from(*number).unwrap();
        Self {
            id: u32::try_from(numbers[0]).unwrap(),
            reads: size(&numbers[1]),
            code: u32::try_from(numbers[2]).unwrap(),
            pause: numbers[3],
            down: numbers[4..].iter().map(size).collect(),
        }
    }

    pub(super) fn panics(&self) -> bool {
        self.code == PANIC
    }

    pub(super) fn answer(&self) -> Body {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code));
        body(self.id, &self.down, self.pause, Some(Ok(trailers)))
    }
}

pub(super) async fn pause(micros: u64) {
    if micros > 0 {
        super::pass(Duration::from_micros(micros)).await;
    }
}

/// Numbered messages, now and then in two pieces; then trailers, a failure, or the end.
fn body(id: u32, sizes: &[usize], micros: u64, end: Option<Result<HeaderMap, Status>>) -> Body {
    let mut pieces = VecDeque::new();
    for (number, size) in sizes.iter().enumerate() {
        let mut message = BytesMut::new();
        message.put_u32(id);
        message.put_u32(u32::try_from(number).unwrap());
        message.put_u32(u32::try_from(*size).unwrap());
        message.put_bytes(id.to_le_bytes()[0], *size);
        let mut message = message.freeze();
        if number % 3 == 1 {
            pieces.push_back(message.split_to(message.len() / 2));
        }
        pieces.push_back(message);
    }
    let frames = stream::unfold((pieces, end), move |(mut pieces, mut end)| async move {
        pause(micros).await;
        let frame = match pieces.pop_front() {
            Some(piece) => Ok(http_body::Frame::data(piece)),
            None => end.take()?.map(http_body::Frame::trailers),
        };
        Some((frame, (pieces, end)))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

/// The messages of a body as they come.
#[derive(Debug)]
pub(super) struct Messages {
    id: u32,
    pub(super) count: u32,
    rest: BytesMut,
}

impl Messages {
    pub(super) fn of(id: u32) -> Self {
        Self {
            id,
            count: 0,
            rest: BytesMut::new(),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, bytes: &Bytes) -> Result<(), String> {
        self.rest.extend_from_slice(bytes);
        while let Some(mut head) = self.rest.get(..12) {
            let (id, number, size) = (head.get_u32(), head.get_u32(), head.get_u32());
            if (id, number) != (self.id, self.count) {
                return Err(format!(
                    "message {number} of call {id} where {} of {} was to come",
                    self.count, self.id
                ));
            }
            let length = 12 + usize::try_from(size).unwrap();
            if self.rest.len() < length {
                break;
            }
            let message = self.rest.split_to(length);
            if message[12..]
                .iter()
                .any(|byte| *byte != id.to_le_bytes()[0])
            {
                return Err(format!("message {number} of call {id} has other bytes"));
            }
            self.count += 1;
        }
        Ok(())
    }
}
