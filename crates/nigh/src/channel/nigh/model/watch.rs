//! What one end sends and reads, held against the clauses: order of frames, slots, credit. It knows nothing of the code.

use std::collections::HashMap;

use bytes::BytesMut;

use crate::frame::{Accepted, Decoder, Greeting, Header, Kind, decode};

#[derive(Debug, Default)]
struct Call {
    credit: i64,
    has_head: bool,
    has_ended: bool,
    is_cancelled: bool,
    /// By this end's knowledge.
    is_over: bool,
}

/// Bytes of one direction to frames.
#[derive(Debug)]
struct Reader {
    head: BytesMut,
    greeting: Option<Greeting>,
    decoder: Decoder,
}

impl Reader {
    fn new() -> Self {
        let accepted = Accepted {
            frame_bytes_max: 1 << 24,
            header_bytes_max: 1 << 20,
            descriptors: true,
        };
        Self {
            head: BytesMut::new(),
            greeting: None,
            decoder: Decoder::new(accepted, BytesMut::new()),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<(Header, Vec<u8>)>, String> {
        let mut bytes = bytes.to_vec();
        if self.greeting.is_none() {
            self.head.extend_from_slice(&bytes);
            match Greeting::decode(&self.head).map_err(|error| error.to_string())? {
                None => return Ok(Vec::new()),
                Some((greeting, length)) => {
                    self.greeting = Some(greeting);
                    bytes = self.head.split_off(length).to_vec();
                }
            }
        }
        self.decoder.room().extend_from_slice(&bytes);
        let mut frames = Vec::new();
        while let Some(header) = self.decoder.frame().map_err(|error| error.to_string())? {
            frames.push((header, self.decoder.take().to_vec()));
        }
        Ok(frames)
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct Watch {
    is_client: bool,
    sending: Reader,
    getting: Reader,
    calls: HashMap<u32, Call>,
    /// The stream that last had this slot.
    slots: HashMap<u16, u32>,
    /// Given by the other end and not used, without what its greeting gave.
    credit: i64,
    /// DATA that came, and what of it was given back.
    received: i64,
    returned: i64,
    broken: Option<String>,
}

impl Watch {
    pub(super) fn new(is_client: bool) -> Self {
        Self {
            is_client,
            sending: Reader::new(),
            getting: Reader::new(),
            calls: HashMap::new(),
            slots: HashMap::new(),
            credit: 0,
            received: 0,
            returned: 0,
            broken: None,
        }
    }

    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let frames = self.sending.feed(bytes);
        let judged = frames.and_then(|frames| {
            frames
                .iter()
                .try_for_each(|(header, content)| self.sends(header, content))
        });
        self.note(judged);
    }

    pub(super) fn got(&mut self, bytes: &[u8]) {
        let frames = self.getting.feed(bytes);
        let judged = frames.and_then(|frames| {
            frames
                .iter()
                .try_for_each(|(header, content)| self.gets(header, content))
        });
        self.note(judged);
    }

    fn note(&mut self, judged: Result<(), String>) {
        if let Err(why) = judged {
            self.broken.get_or_insert(why);
        }
    }

    fn side(&self) -> &'static str {
        if self.is_client { "client" } else { "server" }
    }

    pub(super) fn kept(&self) -> Result<(), String> {
        match &self.broken {
            None => Ok(()),
            Some(why) => Err(format!("the {} broke a rule: {why}", self.side())),
        }
    }

    /// All that came was consumed; less than half a window need not be told (clause 8.5).
    pub(super) fn given_back(&self) -> Result<(), String> {
        let window = self
            .sending
            .greeting
            .map_or(0, |own| i64::from(own.connection_window));
        let kept = self.received - self.returned;
        if kept > 0 && kept >= (window / 2).max(1) {
            return Err(format!(
                "the {} keeps credit for {kept} bytes of {window}",
                self.side()
            ));
        }
        Ok(())
    }

    fn peer(&self) -> Result<Greeting, String> {
        self.getting
            .greeting
            .ok_or_else(|| "a frame before the greeting [2.1]".to_owned())
    }

    /// A call begins; by HEADERS that the client sent.
    fn opens(&mut self, stream: u32, streams_max: u32, credit: u32) -> Result<(), String> {
        let (slot, generation) = crate::link::split(stream);
        if u32::from(slot) >= streams_max || generation == 0 {
            return Err(format!("stream {stream:#x} of {streams_max} calls [4.1]"));
        }
        if let Some(last) = self.slots.insert(slot, stream) {
            let is_over = self.calls.get(&last).is_none_or(|call| call.is_over);
            if last == stream || !is_over {
                return Err(format!("stream {stream:#x} where {last:#x} is [4.2]"));
            }
        }
        self.calls.insert(
            stream,
            Call {
                credit: credit.into(),
                ..Call::default()
            },
        );
        Ok(())
    }

    fn sends(&mut self, header: &Header, content: &[u8]) -> Result<(), String> {
        let Header { kind, stream, .. } = *header;
        let peer = self.peer()?;
        let what = format!("{kind:?} on {stream:#x}");
        match kind {
            Kind::Headers if self.is_client => {
                self.opens(stream, peer.streams_max, peer.stream_window)?
            }
            Kind::Trailers | Kind::Unseen if self.is_client => {
                return Err(format!("{what} from a client [4.3]"));
            }
            Kind::Window if stream == 0 => {
                self.returned += i64::from(decode::window(content).map_err(|e| e.to_string())?);
                if self.returned > self.received {
                    return Err(format!(
                        "credit for {} bytes, {} came [8.5]",
                        self.returned, self.received
                    ));
                }
                return Ok(());
            }
            Kind::Ping
            | Kind::Pong
            | Kind::GoAway
            | Kind::Window
            | Kind::Fds
            | Kind::Ignorable(_) => {
                return Ok(());
            }
            _ => {}
        }
        let is_client = self.is_client;
        let total = i64::from(peer.connection_window) + self.credit;
        let call = self
            .calls
            .get_mut(&stream)
            .ok_or_else(|| format!("{what}, which is no call"))?;
        let is_late = call.has_ended || call.is_cancelled;
        match kind {
            Kind::Cancel if call.is_cancelled => return Err(format!("{what} twice [9.1]")),
            Kind::Cancel => {
                call.is_cancelled = true;
                call.is_over = true;
                return Ok(());
            }
            _ if is_late => return Err(format!("{what} after the end [4.3]")),
            Kind::Headers if call.has_head => return Err(format!("{what} twice [4.3]")),
            Kind::Headers => call.has_head = true,
            _ if !call.has_head => return Err(format!("{what} before HEADERS [4.3]")),
            _ => {}
        }
        if kind == Kind::Data && !content.is_empty() {
            if content.len() > peer.accepted().frame_bytes_max {
                return Err(format!("{what} of {} bytes [3.3]", content.len()));
            }
            if call.credit <= 0 || total <= 0 {
                return Err(format!(
                    "{what} with credit {} and {total} [8.2]",
                    call.credit
                ));
            }
            call.credit -= content.len() as i64;
            self.credit -= content.len() as i64;
        }
        if header.is_last() {
            call.has_ended = true;
            call.is_over |= !is_client;
        }
        Ok(())
    }

    fn gets(&mut self, header: &Header, content: &[u8]) -> Result<(), String> {
        let Header { kind, stream, .. } = *header;
        if kind == Kind::Headers && !self.is_client {
            let own = self
                .sending
                .greeting
                .ok_or("HEADERS before the greeting [2.1]")?;
            let peer = self.peer()?;
            self.opens(stream, own.streams_max, peer.stream_window)?;
        }
        let is_client = self.is_client;
        let call = self.calls.get_mut(&stream);
        match kind {
            Kind::Window => {
                let more = i64::from(decode::window(content).map_err(|e| e.to_string())?);
                match call {
                    _ if stream == 0 => self.credit += more,
                    Some(call) => call.credit += more,
                    None => return Err(format!("WINDOW for {stream:#x}, which is no call")),
                }
            }
            Kind::Cancel => call.into_iter().for_each(|call| call.is_over = true),
            Kind::Data | Kind::Headers | Kind::Trailers => {
                if kind == Kind::Data {
                    self.received += content.len() as i64;
                }
                if header.is_last() && is_client {
                    call.into_iter().for_each(|call| call.is_over = true);
                }
            }
            Kind::Ping
            | Kind::Pong
            | Kind::GoAway
            | Kind::Fds
            | Kind::Unseen
            | Kind::Ignorable(_) => {}
        }
        Ok(())
    }
}
