//! `nigh ls --watch`: a list that keeps itself up to date on a terminal, and a line per change elsewhere.
//!
//! Trap: a list longer than the screen would scroll away; only what fits is drawn, and how much is left out is said.

use std::collections::BTreeMap;
use std::io;

use nigh_socket::introspect::{self, Survey};
use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use super::{Entry, HEADINGS, entries};
use crate::cli::LsArgs;
use crate::error::Failure;
use crate::output::{self, Manner, Style, When};

/// Lines and columns of a screen that does not tell.
const LINES: usize = 24;

/// Looks again and again, until it is told to stop or has looked often enough.
pub(super) fn run(args: &LsArgs, when: When) -> Result<(), Failure> {
    let manner = Manner::stdout(when);
    let mut changes = Changes::default();
    let mut looks = 0;
    loop {
        let survey = introspect::survey(&introspect::usual_directories())?;
        if args.json || !manner.is_terminal() {
            changes.print(&survey, args.json)?;
        } else {
            output::print(&frame(&survey, manner))?;
        }
        looks += 1;
        if args.looks.is_some_and(|most| looks >= most) {
            return Ok(());
        }
        std::thread::sleep(args.interval);
    }
}

/// One screen. Long lines are left to the terminal to cut, which is told not to wrap them.
fn frame(survey: &Survey, manner: Manner) -> String {
    let rows: Vec<_> = entries(survey).iter().map(Entry::as_row).collect();
    let table = manner.table(&HEADINGS, &rows);
    let height = tcgetwinsize(io::stdout()).map_or(LINES, |size| usize::from(size.ws_row));
    // A line stays free for the cursor.
    screen(&table, height.max(3) - 1, manner)
}

fn screen(table: &str, height: usize, manner: Manner) -> String {
    let total = table.lines().count();
    let shown = if total > height { height - 1 } else { total };
    let mut text = String::from("\x1b[?7l\x1b[H");
    for line in table.lines().take(shown) {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    if shown < total {
        let more = format!("and {} more", total - shown);
        text.push_str(&manner.paint(Style::Faint, &more));
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J\x1b[?7h");
    text
}

/// What was there at the last look.
#[derive(Debug, Default)]
struct Changes {
    known: Option<BTreeMap<(String, u64), Value>>,
}

impl Changes {
    fn print(&mut self, survey: &Survey, as_json: bool) -> Result<(), Failure> {
        let now: BTreeMap<(String, u64), Value> = entries(survey)
            .iter()
            .map(|entry| {
                let value = entry.as_json();
                let address = value["address"].as_str().unwrap_or_default().to_owned();
                (
                    (address, value["inode"].as_u64().unwrap_or_default()),
                    value,
                )
            })
            .collect();
        let mut events = Vec::new();
        match &self.known {
            None => events.extend(now.values().map(|entry| ("present", entry))),
            Some(known) => {
                let gone = known.iter().filter(|(key, _)| !now.contains_key(*key));
                events.extend(gone.map(|(_, entry)| ("gone", entry)));
                events.extend(now.iter().filter_map(|(key, entry)| match known.get(key) {
                    None => Some(("appeared", entry)),
                    Some(before) if before != entry => Some(("changed", entry)),
                    Some(_) => None,
                }));
            }
        }
        for (event, entry) in events {
            match as_json {
                true => output::print_json(&json!({"event": event, "socket": entry}))?,
                false => output::print(&line(event, entry))?,
            }
        }
        self.known = Some(now);
        Ok(())
    }
}

fn line(event: &str, entry: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let marks = entry["marks"].as_array().into_iter().flatten();
    let marks: Vec<String> = marks.map(|mark| word(mark).to_uppercase()).collect();
    let servers = entry["servers"].as_array().into_iter().flatten();
    let servers: Vec<String> = servers.map(|server| server["pid"].to_string()).collect();
    let backlog = match &entry["backlog"] {
        Value::Null => "-".to_owned(),
        backlog => format!("{}/{}", backlog["queued"], backlog["max"]),
    };
    let text = format!(
        "{event} {} {} {backlog} {} {}",
        word(&entry["address"]),
        word(&entry["type"]),
        servers.join(","),
        marks.join(" ")
    );
    format!("{}\n", output::visible(text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_holds_no_more_than_it_has_lines() {
        let table: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let manner = Manner::stdout(When::Never);
        let drawn = screen(&table, 10, manner);
        assert_eq!(drawn.matches('\n').count(), 10);
        assert!(drawn.contains("and 91 more"), "{drawn}");
        let drawn = screen("a\nb\n", 10, manner);
        assert_eq!(drawn, "\x1b[?7l\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
    }
}
