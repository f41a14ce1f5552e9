//! What a supervisor tells of itself, as JSON.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Instance, Supervisor};

impl Supervisor {
    pub(super) fn status(&self) -> Value {
        let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).ok();
        let instance = |instance: &Instance| {
            json!({
                "pid": instance.pid(),
                "state": instance.phase.word(),
                "uptime_ms": milliseconds(instance.ran()),
                "status": instance.status,
            })
        };
        let state = match (&self.current, &self.next) {
            _ if self.is_ending => "ending",
            (Some(_), Some(_)) => "being replaced",
            (Some(current), None) => current.phase.word(),
            (None, _) => "waiting after a crash",
        };
        let command = self.plan.command.iter().map(|word| word.to_string_lossy());
        let now = Instant::now();
        json!({
            "name": self.plan.name,
            "supervisor": std::process::id(),
            "command": command.collect::<Vec<_>>(),
            "state": state,
            "current": self.current.as_ref().map(instance),
            "next": self.next.as_ref().map(instance),
            "old": self.old.iter().map(instance).collect::<Vec<_>>(),
            "sockets": self.socket_list,
            "stored": self.store.names().collect::<Vec<_>>(),
            "crashes": self.crashes,
            "crashes_in_a_row": self.backoff.crashes(),
            "replacements": self.replacements,
            "asked_again": self.replace_again,
            "starts_in_ms": self.starts_at.and_then(|at| milliseconds(at.saturating_duration_since(now))),
            "last_exit": self.last_exit.as_ref().map(|last| json!({
                "pid": last.pid,
                "text": last.end.to_string(),
                "code": last.end.code,
                "signal": last.end.signal,
                "ago_ms": milliseconds(now - last.at),
            })),
        })
    }
}
