//! The ring's protocol under every interleaving and every order of memory that the language allows, by loom.
//!
//! The counts have to order every access to the bytes: one that is not ordered is a race, and a sleep that nobody ends a deadlock;
//! loom reports both. `LOOM_MAX_PREEMPTIONS` widens the search; CI does. Trap: loom may order a read-modify-write as the language
//! does not, and then reports a deadlock that cannot be; the protocol has none.

use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicU32, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use tokio::io::ReadBuf;

use super::cursor::Capacity;
use super::protocol::{Found, Memory, Name, Reader, Ring, Word, Writer};
use crate::sys::raced::RacedByte;

/// One ring; the other is its mirror image.
struct Model {
    words: [AtomicU32; 6],
    bytes: Vec<RacedByte>,
    /// The bells of reader and writer: they remember one ring.
    reader: Bell,
    writer: Bell,
}

/// An event descriptor: remembers that it was rung until somebody has waited for it.
#[derive(Default)]
struct Bell {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.is_rung.lock().unwrap() = true;
        self.rung.notify_one();
    }

    fn wait(&self) {
        let mut is_rung = self.is_rung.lock().unwrap();
        while !std::mem::replace(&mut *is_rung, false) {
            is_rung = self.rung.wait(is_rung).unwrap();
        }
    }
}

impl Model {
    fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self {
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            bytes: (0..capacity.bytes()).map(|_| RacedByte::new(0)).collect(),
            reader: Bell::default(),
            writer: Bell::default(),
        })
    }
}

impl Word for AtomicU32 {
    fn load(&self, order: Ordering) -> u32 {
        Self::load(self, order)
    }

    fn store(&self, value: u32, order: Ordering) {
        Self::store(self, value, order);
    }
}

impl Memory for Model {
    type Word = AtomicU32;

    fn word(&self, _: Ring, name: Name) -> &AtomicU32 {
        &self.words[name as usize]
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn put(&self, _: Ring, at: u32, bytes: &[u8]) {
        for (to, from) in self.bytes[at as usize..].iter().zip(bytes) {
            to.set(*from);
        }
    }

    fn take(&self, _: Ring, at: u32, length: u32, into: &mut ReadBuf<'_>) {
        for byte in &self.bytes[at as usize..(at + length) as usize] {
            into.put_slice(&[byte.get()]);
        }
    }
}

/// Writes all of it, sleeping while there is no room.
fn write_all(model: &Model, writer: &mut Writer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = writer.put(model, bytes).unwrap();
        if written > 0 {
            bytes = &bytes[written..];
            if writer.publish(model) {
                model.reader.ring();
            }
        } else if writer.wait(model).unwrap() {
            model.writer.wait();
        }
    }
}

/// Reads up to so many bytes at a time, sleeping while there is nothing, to the end or until it has `enough`.
fn read(model: &Model, reader: &mut Reader, at_once: usize, enough: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < enough {
        let mut space = [0; 8];
        let mut into = ReadBuf::new(&mut space[..at_once]);
        if reader.take(model, &mut into).unwrap() > 0 {
            all.extend_from_slice(into.filled());
            if reader.release(model) {
                model.writer.ring();
            }
            continue;
        }
        match reader.wait(model).unwrap() {
            Found::Bytes => {}
            Found::End => break,
            Found::Nothing => model.reader.wait(),
        }
    }
    all
}

fn passes(capacity: u32, chunks: &'static [&'static [u8]], at_once: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(move || {
        let capacity = Capacity::new(capacity).unwrap();
        let model = Model::new(capacity);
        let writing = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let mut writer = Writer::new(Ring::ToServer, capacity);
                for chunk in chunks {
                    write_all(&model, &mut writer, chunk);
                }
                if writer.end(&*model) {
                    model.reader.ring();
                }
            })
        };
        let mut reader = Reader::new(Ring::ToServer, capacity);
        let all = read(&model, &mut reader, at_once, usize::MAX);
        assert_eq!(all, chunks.concat());
        writing.join().unwrap();
    });
}

#[test]
fn loom_a_sleeping_reader_is_woken_and_sees_what_was_written() {
    passes(4, &[b"ab", b"c"], 8);
}

#[test]
fn loom_a_sleeping_writer_is_woken_when_there_is_room() {
    passes(2, &[b"abc"], 1);
}

#[test]
fn loom_the_end_comes_after_the_last_byte() {
    passes(2, &[b"ab"], 8);
    passes(1, &[], 8);
}

/// Two rings, one question and its answer: nobody sleeps for ever.
#[test]
fn loom_ping_pong() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(|| {
        let capacity = Capacity::new(2).unwrap();
        let (there, back) = (Model::new(capacity), Model::new(capacity));
        let answering = {
            let (there, back) = (Arc::clone(&there), Arc::clone(&back));
            thread::spawn(move || {
                let mut reader = Reader::new(Ring::ToServer, capacity);
                let mut writer = Writer::new(Ring::ToClient, capacity);
                for _ in 0..2 {
                    let question = read(&there, &mut reader, 1, 1);
                    write_all(&back, &mut writer, &question);
                }
            })
        };
        let mut writer = Writer::new(Ring::ToServer, capacity);
        let mut reader = Reader::new(Ring::ToClient, capacity);
        for question in [b"x", b"y"] {
            write_all(&there, &mut writer, question);
            assert_eq!(read(&back, &mut reader, 1, 1), question);
        }
        answering.join().unwrap();
    });
}
