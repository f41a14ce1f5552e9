//! The status for people, from the JSON that the supervisor tells.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::duration;
use crate::output::{Manner, Style, visible};

/// One supervisor's status.
pub(crate) fn render(status: &Value, manner: Manner) -> String {
    let text = |value: &Value| visible(value.as_str().unwrap_or("unknown"));
    let number = |value: &Value| {
        value
            .as_u64()
            .map_or("unknown".to_owned(), |n| n.to_string())
    };
    let name = manner.paint(Style::Strong, &text(&status["name"]));
    let mut out = format!("{name}: {}\n", text(&status["state"]));
    let mut line = |label: &str, value: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(out, "  {label:<11}{value}");
    };
    let words = status["command"].as_array().cloned().unwrap_or_default();
    let words: Vec<String> = words.iter().map(text).collect();
    line("command", words.join(" "));
    line(
        "supervisor",
        format!("pid {}", number(&status["supervisor"])),
    );
    for (label, key) in [("serving", "current"), ("next", "next")] {
        if status[key].is_object() {
            line(label, instance(&status[key]));
        }
    }
    if status["asked_again"] == true && !status["next"].is_object() {
        line("next", "waits until an old one has ended".to_owned());
    }
    for old in status["old"].as_array().into_iter().flatten() {
        line("old", instance(old));
    }
    for socket in status["sockets"].as_array().into_iter().flatten() {
        let (name, address) = (text(&socket["name"]), text(&socket["address"]));
        line("socket", format!("{address} as {name}"));
    }
    for kept in status["stored"].as_array().into_iter().flatten() {
        line("kept", text(kept));
    }
    let (crashes, replaced) = (number(&status["crashes"]), number(&status["replacements"]));
    line(
        "history",
        format!("{crashes} crashes, {replaced} replacements"),
    );
    if status["last_exit"].is_object() {
        let last = &status["last_exit"];
        let ago = show(&last["ago_ms"]);
        line(
            "last end",
            format!(
                "{}, {ago} ago (pid {})",
                text(&last["text"]),
                number(&last["pid"])
            ),
        );
    }
    if status["starts_in_ms"].is_u64() {
        line("starts in", show(&status["starts_in_ms"]));
    }
    out
}

fn instance(instance: &Value) -> String {
    let pid = instance["pid"].as_u64().unwrap_or_default();
    let state = visible(instance["state"].as_str().unwrap_or("unknown"));
    let mut text = format!("pid {pid}, {state}, for {}", show(&instance["uptime_ms"]));
    if let Some(status) = instance["status"]
        .as_str()
        .filter(|status| !status.is_empty())
    {
        let _ = write!(text, ": {}", visible(status));
    }
    text
}

fn show(milliseconds: &Value) -> String {
    let time = milliseconds.as_u64().map(Duration::from_millis);
    time.map_or("unknown".to_owned(), duration::show)
}
