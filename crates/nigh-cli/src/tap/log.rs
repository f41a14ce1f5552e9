//! The tap's output: lines from all connections in one bounded queue, written by a thread of its own.
//!
//! Trap: standard output may be slow or stuck. Then the queue fills and forwarding waits: no line is lost, no memory grows.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::decode::{Note, Side};
use crate::output::{self, Manner, Style};

/// Lines that wait to be written.
const LINES_MAX: usize = 256;

/// Where connections say what they saw.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    lines: mpsc::Sender<String>,
    as_json: bool,
    manner: Manner,
}

/// Where in the output a note stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Number of the connection, from 1.
    pub(crate) connection: u64,
    /// Time since it was accepted.
    pub(crate) at: Duration,
    /// Who sent it; none for what the tap itself has to say.
    pub(crate) from: Option<Side>,
}

impl Log {
    /// A log, and the writer: it ends with the last clone of the log, or when nobody reads.
    pub(crate) fn start(as_json: bool, manner: Manner) -> (Self, JoinHandle<io::Result<()>>) {
        let (lines, mut queue) = mpsc::channel::<String>(LINES_MAX);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(line) = queue.blocking_recv() {
                output::print(&line)?;
            }
            Ok(())
        });
        let log = Self {
            lines,
            as_json,
            manner,
        };
        (log, writer)
    }

    /// Says it. When the writer has ended, the command ends too, and nobody misses the line.
    pub(crate) async fn say(&self, place: Place, note: &Note) {
        let line = if self.as_json {
            as_json(place, note)
        } else {
            self.line(place, note)
        };
        let _ = self.lines.send(line).await;
    }

    fn line(&self, place: Place, note: &Note) -> String {
        let arrow = match place.from {
            Some(Side::Client) => "->",
            Some(Side::Server) => "<-",
            None => "--",
        };
        let millis = place.at.as_secs_f64() * 1e3;
        let head = format!("#{} {millis:>10.3} ms {arrow}", place.connection);
        let head = self.manner.paint(Style::Faint, &head);
        format!("{head} {}\n", output::visible(&note.line()))
    }
}

fn as_json(place: Place, note: &Note) -> String {
    let mut object = serde_json::Map::new();
    object.insert("connection".into(), json!(place.connection));
    let micros = u64::try_from(place.at.as_micros()).unwrap_or(u64::MAX);
    object.insert("at_us".into(), json!(micros));
    let from = match place.from {
        Some(Side::Client) => json!("client"),
        Some(Side::Server) => json!("server"),
        None => Value::Null,
    };
    object.insert("from".into(), from);
    object.extend(note.as_json());
    let json = Value::Object(object).to_string();
    format!("{}\n", output::visible_json(&json))
}
