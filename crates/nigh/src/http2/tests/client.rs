//! A client that no library offers: every HPACK form, table sizes, padding, priority, cuts anywhere, any authority.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{PREFACE, frame};

/// How one field is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// By one index, if name and value are in the table.
    indexed: bool,
    /// By a name index, if the name is in a table.
    name_indexed: bool,
    /// First byte of the literal: 0x40 incremental, 0x10 never indexed, 0 without indexing.
    literal: u8,
    huffman_name: bool,
    huffman_value: bool,
}

pub(super) fn form() -> impl Strategy<Value = Form> {
    let literal = select(&[0x40, 0x40, 0x40, 0x10, 0x00][..]);
    (
        prop::bool::weighted(0.8),
        any::<bool>(),
        literal,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(indexed, name_indexed, literal, huffman_name, huffman_value)| Form {
                indexed,
                name_indexed,
                literal,
                huffman_name,
                huffman_value,
            },
        )
}

pub(super) type Field = (String, Vec<u8>, Form);

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) authority: Option<String>,
    authority_form: Form,
    authority_at: usize,
    pseudo_forms: [Form; 3],
    pub(super) fields: Vec<Field>,
    pub(super) trailers: Option<Vec<Field>>,
    table_sizes: Vec<usize>,
    padding: Option<u8>,
    priority: bool,
    cuts: Vec<Index>,
    ping: bool,
}

const GOOD: &[&str] = &["localhost", "example.org:80", "a", "[::1]:50051"];
const BAD: &[&str] = &[
    "/",
    "/x",
    "a b",
    "unix:/x",
    "%2Ftmp%2F",
    "/var/run/x.sock",
    "%2Fvar%2Frun%2Fx.sock",
    "/a/b/c/dé",
];

fn authority() -> impl Strategy<Value = Option<String>> {
    let long = select(&[17_usize, 60, 500, 4043, 4054, 4055, 4100][..]);
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(String::new())),
        3 => select(GOOD).prop_map(|name| Some(name.to_owned())),
        8 => select(BAD).prop_map(|name| Some(name.to_owned())),
        2 => long.prop_map(|len| Some("/".to_owned() + &"p".repeat(len - 1))),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    let names = &[
        "user-agent",
        "content-type",
        "x-one",
        "x-two",
        "grpc-timeout",
        "cookie",
        "zz",
        "host",
    ][..];
    let value = prop_oneof![
        4 => vec(0x20..0x7f_u8, 0..4),
        2 => vec(0x20..0x7f_u8, 0..40),
        1 => vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 300..1500),
        1 => vec(Just(b'v'), 4030..4100),
    ];
    (select(names), value, form()).prop_map(|(name, value, form)| (name.to_owned(), value, form))
}

pub(super) fn request() -> impl Strategy<Value = Request> {
    let sizes = select(&[0, 44, 50, 51, 58, 64, 90, 130, 300, 4096][..]);
    let head = (
        authority(),
        form(),
        0..4_usize,
        [form(), form(), form()],
        vec(field(), 0..6),
    );
    let tail = (
        option::weighted(0.2, vec(field(), 0..3)),
        prop_oneof![4 => Just(Vec::new()), 1 => vec(sizes, 1..3)],
        option::weighted(0.3, any::<u8>()),
        prop::bool::weighted(0.3),
        prop_oneof![2 => Just(Vec::new()), 1 => vec(any::<Index>(), 1..5)],
        any::<bool>(),
    );
    (head, tail).prop_map(|(head, tail)| {
        let (authority, authority_form, authority_at, pseudo_forms, fields) = head;
        let (trailers, table_sizes, padding, priority, cuts, ping) = tail;
        Request {
            authority,
            authority_form,
            authority_at,
            pseudo_forms,
            fields,
            trailers,
            table_sizes,
            padding,
            priority,
            cuts,
            ping,
        }
    })
}

/// A connection that is watched.
pub(super) fn bad_first() -> impl Strategy<Value = Vec<Request>> {
    let bad = request().prop_map(|mut request| {
        request.authority = Some("%2Ftmp%2Fx.sock".to_owned());
        request
    });
    (bad, vec(request(), 0..40)).prop_map(|(first, rest)| [vec![first], rest].concat())
}

/// The bytes of a whole connection.
pub(super) fn connection(requests: &[Request]) -> Vec<u8> {
    let mut encoder = Encoder {
        table: VecDeque::new(),
        max: 4096,
    };
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for (request, stream) in requests.iter().zip((1..).step_by(2)) {
        request.write(stream, &mut encoder, &mut bytes);
    }
    bytes
}

impl Request {
    fn write(&self, stream: u32, encoder: &mut Encoder, bytes: &mut Vec<u8>) {
        let mut block = Vec::new();
        for &size in &self.table_sizes {
            encoder.resize(size, &mut block);
        }
        let [method, scheme, path] = self.pseudo_forms;
        let mut fields: Vec<Field> = vec![
            (":method".into(), b"POST".into(), method),
            (":scheme".into(), b"http".into(), scheme),
            (":path".into(), format!("/a.B/{}", stream % 7).into(), path),
        ];
        if let Some(authority) = &self.authority {
            let field = (
                ":authority".into(),
                authority.clone().into(),
                self.authority_form,
            );
            fields.insert(self.authority_at, field);
        }
        fields.extend(self.fields.iter().cloned());
        for field in &fields {
            encoder.field(field, &mut block);
        }
        let end_stream = u8::from(self.trailers.is_none());
        self.write_block(stream, end_stream, &block, bytes);
        if self.ping {
            bytes.extend(frame(6, 0, 0, &[1; 8]));
        }
        if let Some(trailers) = &self.trailers {
            bytes.extend(frame(0, 0, stream, b"hello"));
            let mut block = Vec::new();
            for field in trailers {
                encoder.field(field, &mut block);
            }
            self.write_block(stream, 1, &block, bytes);
        }
    }

    fn write_block(&self, stream: u32, end_stream: u8, block: &[u8], bytes: &mut Vec<u8>) {
        let mut at: Vec<usize> = self
            .cuts
            .iter()
            .map(|cut| cut.index(block.len() + 1))
            .collect();
        // A frame has at most 16 KiB, and h2 takes few CONTINUATION frames.
        at.extend((1..).map(|n| n * 16_000).take_while(|&at| at < block.len()));
        at.extend([0, block.len()]);
        at.sort_unstable();
        let last = at.len() - 2;
        for (n, ends) in at.windows(2).enumerate() {
            let piece = &block[ends[0]..ends[1]];
            let end_headers = if n == last { 4 } else { 0 };
            if n > 0 {
                bytes.extend(frame(9, end_headers, stream, piece));
                continue;
            }
            let mut flags = end_stream | end_headers;
            let mut payload = Vec::new();
            if let Some(padding) = self.padding {
                flags |= 8;
                payload.push(padding);
            }
            if self.priority {
                flags |= 0x20;
                payload.extend([0x80, 0, 0, 0, 16]);
            }
            payload.extend(piece);
            payload.extend(vec![0; self.padding.unwrap_or(0).into()]);
            bytes.extend(frame(1, flags, stream, &payload));
        }
    }
}

/// HPACK with a table of its own, of names and values.
struct Encoder {
    table: VecDeque<(String, Vec<u8>)>,
    max: usize,
}

/// The few static entries that the tests can name.
const STATIC: &[(&str, usize)] = &[
    (":authority", 1),
    (":method", 2),
    (":path", 4),
    (":scheme", 6),
    ("content-type", 31),
    ("cookie", 32),
    ("host", 38),
    ("user-agent", 58),
];

impl Encoder {
    fn resize(&mut self, max: usize, out: &mut Vec<u8>) {
        integer(max, 5, 0x20, out);
        self.max = max;
        self.evict();
    }

    fn evict(&mut self) {
        let size = |(name, value): &(String, Vec<u8>)| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > self.max {
            self.table.pop_back();
        }
    }

    fn field(&mut self, (name, value, form): &Field, out: &mut Vec<u8>) {
        let whole = self.table.iter().position(|(n, v)| n == name && v == value);
        if let (true, Some(place)) = (form.indexed, whole) {
            return integer(62 + place, 7, 0x80, out);
        }
        let prefix = if form.literal == 0x40 { 6 } else { 4 };
        let dynamic = self
            .table
            .iter()
            .position(|(n, _)| n == name)
            .map(|place| 62 + place);
        let fixed = || {
            STATIC
                .iter()
                .find(|(n, _)| n == name)
                .map(|&(_, index)| index)
        };
        match dynamic.or_else(fixed).filter(|_| form.name_indexed) {
            Some(index) => integer(index, prefix, form.literal, out),
            None => {
                out.push(form.literal);
                text(name.as_bytes(), form.huffman_name, out);
            }
        }
        text(value, form.huffman_value, out);
        if form.literal == 0x40 {
            // As RFC 7541 §4.4 says it: too long an entry empties the table, itself included.
            self.table.push_front((name.clone(), value.clone()));
            self.evict();
        }
    }
}

fn integer(value: usize, prefix: u32, first: u8, out: &mut Vec<u8>) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        return out.push(first | u8::try_from(value).unwrap());
    }
    out.push(first | u8::try_from(mask).unwrap());
    let mut left = value - mask;
    while left >= 128 {
        out.push(u8::try_from(left % 128).unwrap() | 0x80);
        left /= 128;
    }
    out.push(u8::try_from(left).unwrap());
}

fn text(text: &[u8], huffman: bool, out: &mut Vec<u8>) {
    if huffman {
        let mut code = Vec::new();
        httlib_huffman::encode(text, &mut code).unwrap();
        integer(code.len(), 7, 0x80, out);
        out.extend(code);
    } else {
        integer(text.len(), 7, 0, out);
        out.extend(text);
    }
}
