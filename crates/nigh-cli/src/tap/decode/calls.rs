//! The gRPC calls of one connection, whichever frames carry them: methods, messages, statuses, times. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::Code;

use super::grpc::{Message, Messages};
use super::note::{Note, Side, micros};
use crate::call::status::code_name;

const WIRE: &str = "gRPC";
/// Calls of one connection that are followed at once; of more the oldest are forgotten.
const CALLS_MAX: usize = 256;
/// Characters of a method's path that are kept to name its messages by.
const PATH_CHARS_MAX: usize = 512;

/// The calls that have begun and not ended, by their stream.
#[derive(Debug)]
pub(super) struct Calls {
    open: BTreeMap<u32, Call>,
    schema: Option<DescriptorPool>,
}

#[derive(Debug)]
struct Call {
    path: String,
    begun: Duration,
    method: Option<MethodDescriptor>,
    messages: [Option<Messages>; 2],
    ended: [bool; 2],
}

impl Calls {
    /// Messages of methods that `schema` describes are shown as JSON.
    pub(super) fn new(schema: Option<DescriptorPool>) -> Self {
        Self {
            open: BTreeMap::new(),
            schema,
        }
    }

    /// Headers or trailers, a request's path among them as `:path`.
    pub(super) fn headers(
        &mut self,
        (side, stream): (Side, u32),
        headers: &[(String, String)],
        at: Duration,
        notes: &mut Vec<Note>,
    ) {
        notes.extend(self.say(side, stream, headers, at));
        self.follow(side, stream, headers, at);
    }

    fn say(
        &self,
        side: Side,
        stream: u32,
        headers: &[(String, String)],
        at: Duration,
    ) -> Option<Note> {
        if side == Side::Client {
            is_grpc(headers).then_some(())?;
            let note = Note::new(WIRE, "call").with("stream", stream);
            let note = note.with("method", find(headers, ":path")?);
            return Some(note.with_some("timeout", find(headers, "grpc-timeout")));
        }
        let status = find(headers, "grpc-status")?;
        let name = status.parse::<i32>().map(Code::from).map_or("?", code_name);
        let note = Note::new(WIRE, "status").with("stream", stream);
        let call = self.open.get(&stream);
        let note = note.with_some("method", call.map(|call| call.path.clone()));
        let note = note.with("code", status).with("status", name);
        let note = note.with_some("message", find(headers, "grpc-message"));
        Some(note.with_some("took_us", self.took(stream, at)))
    }

    /// Keeps what later frames of the stream are read with.
    fn follow(&mut self, side: Side, stream: u32, headers: &[(String, String)], at: Duration) {
        if !is_grpc(headers) {
            return;
        }
        if side == Side::Server {
            if let Some(call) = self.open.get_mut(&stream) {
                let output = call.method.as_ref().map(MethodDescriptor::output);
                call.messages[1] = Some(Messages::new(output));
            }
            return;
        }
        // Trailers of a request begin no call.
        if self.open.contains_key(&stream) {
            return;
        }
        if self.open.len() == CALLS_MAX {
            self.open.pop_first();
        }
        let path = find(headers, ":path").unwrap_or_default();
        let path: String = path.chars().take(PATH_CHARS_MAX).collect();
        let method = self.schema.as_ref().and_then(|pool| method(pool, &path));
        let input = method.as_ref().map(MethodDescriptor::input);
        let call = Call {
            path,
            begun: at,
            method,
            messages: [Some(Messages::new(input)), None],
            ended: [false, false],
        };
        self.open.insert(stream, call);
    }

    /// Bytes of a call's body.
    pub(super) fn data(&mut self, side: Side, stream: u32, data: &[u8], notes: &mut Vec<Note>) {
        let Some(call) = self.open.get_mut(&stream) else {
            return;
        };
        let Some(messages) = &mut call.messages[side.index()] else {
            return;
        };
        let mut complete = Vec::new();
        messages.feed(data, &mut complete);
        for message in complete {
            let Message {
                bytes,
                compressed,
                json,
            } = message;
            let what = match side {
                Side::Client => "request message",
                Side::Server => "response message",
            };
            let note = Note::new(WIRE, what)
                .with("stream", stream)
                .with("method", call.path.clone())
                .with("bytes", bytes);
            let note = note.with_some("compressed", compressed.then_some(true));
            notes.push(note.with_some("json", json));
        }
    }

    /// `side` has ended its direction; the call is over with the second.
    pub(super) fn ended(&mut self, side: Side, stream: u32) {
        if let Some(call) = self.open.get_mut(&stream) {
            call.ended[side.index()] = true;
            if call.ended == [true, true] {
                self.open.remove(&stream);
            }
        }
    }

    /// The call is over.
    pub(super) fn forget(&mut self, stream: u32) {
        self.open.remove(&stream);
    }

    /// The path of a call that is open.
    pub(super) fn path(&self, stream: u32) -> Option<&str> {
        self.open.get(&stream).map(|call| call.path.as_str())
    }

    /// Microseconds since a call that is open began.
    pub(super) fn took(&self, stream: u32, at: Duration) -> Option<u64> {
        let call = self.open.get(&stream)?;
        Some(micros(at.saturating_sub(call.begun)))
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(found, _)| found == name);
    found.map(|(_, value)| value.as_str())
}

fn is_grpc(headers: &[(String, String)]) -> bool {
    find(headers, "content-type").is_some_and(|kind| kind.starts_with("application/grpc"))
}

fn method(pool: &DescriptorPool, path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let service = pool.get_service_by_name(service)?;
    service.methods().find(|method| method.name() == name)
}
