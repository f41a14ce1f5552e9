//! `nigh peers`: who is connected to a socket, what waits between the two ends, and what does not move.
//!
//! Trap: a queue with something in it is nothing odd; one that is just the same a moment later has a reader that does not
//! read. So there are two looks.

use std::collections::HashMap;

use nigh_socket::introspect::{self, ConnectionInfo, EndInfo, Peers, Stage};
use nigh_socket::{Address, ConnectOptions, resolve, user_name};
use serde_json::{Value, json};

use crate::cli::PeersArgs;
use crate::error::Failure;
use crate::output::{self, Cell, Manner, Style, When};

const HEADINGS: [&str; 6] = [
    "STATE",
    "CLIENT",
    "TO SERVER",
    "TO CLIENT",
    "SERVER",
    "MARKS",
];

/// Nothing is served at an address.
#[derive(Debug, thiserror::Error)]
#[error("no Unix socket of this network namespace is served at {address}")]
pub struct NobodyThere {
    address: Address,
}

/// Runs `nigh peers`.
pub(crate) async fn run(args: PeersArgs, when: When) -> Result<(), Failure> {
    let options = ConnectOptions::default().wait(false);
    let address = resolve(&args.place.address, &options).await?;
    let before = introspect::peers(&address)?;
    if before.listeners.is_empty() && before.connections.is_empty() {
        return Err(NobodyThere { address }.into());
    }
    tokio::time::sleep(args.stuck).await;
    let now = introspect::peers(&address)?;
    let before: HashMap<Key, [Queue; 2]> = queues(&before).collect();
    let lines: Vec<Line<'_>> = now
        .connections
        .iter()
        .map(|connection| Line::of(connection, &before))
        .collect();
    if args.json {
        for line in &lines {
            output::print_json(&line.as_json())?;
        }
        return Ok(());
    }
    let manner = Manner::stdout(when);
    let servers = now.listeners.iter().map(|listener| {
        let queue = format!(
            "{} of {} wait to be accepted",
            listener.socket.queued, listener.socket.queue_max
        );
        let who = owners(&listener.owners);
        format!(
            "{}: {who}; {queue}\n",
            manner.paint(Style::Strong, &address.to_string())
        )
    });
    let mut text: String = servers.collect();
    let rows: Vec<Vec<Cell>> = lines.iter().map(Line::as_row).collect();
    text.push_str(&manner.table(&HEADINGS, &rows));
    output::print(&text)?;
    if now.hidden_processes > 0 {
        let hidden = now.hidden_processes;
        let text = format!("{hidden} processes of other users were not looked into; root sees all");
        output::note(when, &text);
    }
    Ok(())
}

/// Both sockets of a connection.
type Key = (Option<u32>, Option<u32>);

/// What waits in one direction: bytes that the reader has not read, memory that the writer has lent, and descriptors.
type Queue = (Option<u32>, Option<u32>, Option<u64>);

fn key(connection: &ConnectionInfo) -> Key {
    let inode = |end: &Option<EndInfo>| end.as_ref().map(|end| end.socket.inode);
    (inode(&connection.server), inode(&connection.client))
}

fn queue(reader: Option<&EndInfo>, writer: Option<&EndInfo>) -> Queue {
    (
        reader.map(|end| end.socket.queued),
        writer.map(|end| end.socket.queue_max),
        reader.and_then(|end| end.fds_queued),
    )
}

fn both(connection: &ConnectionInfo) -> [Queue; 2] {
    let (server, client) = (connection.server.as_ref(), connection.client.as_ref());
    [queue(server, client), queue(client, server)]
}

fn queues(peers: &Peers) -> impl Iterator<Item = (Key, [Queue; 2])> {
    let connections = peers.connections.iter();
    connections.map(|connection| (key(connection), both(connection)))
}

/// Whether something waits there, and has not moved.
fn is_stuck(before: Option<&Queue>, now: &Queue) -> bool {
    let waits = now.0.is_some_and(|bytes| bytes > 0) || now.1.is_some_and(|memory| memory > 0);
    waits && before == Some(now)
}

struct Line<'a> {
    connection: &'a ConnectionInfo,
    stuck: [bool; 2],
}

impl<'a> Line<'a> {
    fn of(connection: &'a ConnectionInfo, before: &HashMap<Key, [Queue; 2]>) -> Self {
        let before = before.get(&key(connection));
        let now = both(connection);
        let stuck = [0, 1].map(|way| is_stuck(before.map(|before| &before[way]), &now[way]));
        Self { connection, stuck }
    }

    fn marks(&self) -> Vec<&'static str> {
        let Self { connection, stuck } = self;
        let is_full = |end: &Option<EndInfo>| {
            end.as_ref()
                .and_then(EndInfo::fill)
                .is_some_and(|fill| fill >= 100)
        };
        let all = [
            (stuck[0], "server-does-not-read"),
            (stuck[1], "client-does-not-read"),
            (is_full(&connection.client), "full-to-server"),
            (is_full(&connection.server), "full-to-client"),
            (connection.client.is_none(), "client-gone"),
            (
                connection.server.is_none() && connection.stage != Stage::Waiting,
                "server-gone",
            ),
        ];
        all.into_iter()
            .filter_map(|(applies, mark)| applies.then_some(mark))
            .collect()
    }

    fn state(&self) -> &'static str {
        match self.connection.stage {
            Stage::Waiting => "waiting",
            Stage::Accepted => "accepted",
            _ => "sending",
        }
    }

    fn as_row(&self) -> Vec<Cell> {
        let ConnectionInfo { server, client, .. } = self.connection;
        let marks = self.marks().join(" ").to_uppercase();
        vec![
            Cell::plain(self.state()),
            person(client.as_ref()),
            waiting(server.as_ref(), client.as_ref()),
            waiting(client.as_ref(), server.as_ref()),
            person(server.as_ref()),
            Cell::new(Style::Bad, marks),
        ]
    }

    fn as_json(&self) -> Value {
        let ConnectionInfo { server, client, .. } = self.connection;
        json!({
            "state": self.state(),
            "client": client.as_ref().map(end_json),
            "server": server.as_ref().map(end_json),
            "marks": self.marks(),
        })
    }
}

/// What waits for that reader, and how full its writer's send buffer is with it.
fn waiting(reader: Option<&EndInfo>, writer: Option<&EndInfo>) -> Cell {
    let bytes = reader.map(|end| format!("{} B", end.socket.queued));
    let fill = writer.and_then(EndInfo::fill);
    let fill = fill
        .filter(|fill| *fill > 0)
        .map(|fill| format!("{fill} %"));
    let fds = reader.and_then(|end| end.fds_queued).filter(|fds| *fds > 0);
    let fds = fds.map(|fds| format!("{fds} descriptors"));
    let parts: Vec<String> = [bytes, fill, fds].into_iter().flatten().collect();
    match parts.is_empty() {
        true => Cell::new(Style::Faint, "-"),
        false => Cell::plain(parts.join(", ")),
    }
}

fn owners(owners: &[introspect::Owner]) -> String {
    let names = owners.iter().map(|owner| {
        let program = owner.executable.as_ref().and_then(|path| path.file_name());
        match program {
            Some(program) => format!("{} {}", owner.pid, program.to_string_lossy()),
            None => owner.pid.to_string(),
        }
    });
    let names: Vec<String> = names.collect();
    match names.is_empty() {
        true => "a process that this user may not see".to_owned(),
        false => names.join(", "),
    }
}

fn person(end: Option<&EndInfo>) -> Cell {
    let Some(end) = end else {
        return Cell::new(Style::Faint, "-");
    };
    let user = end.socket.uid.map(|uid| {
        let name = user_name(uid).ok().flatten();
        name.unwrap_or_else(|| uid.to_string())
    });
    let user = user.map_or_else(String::new, |user| format!("{user}: "));
    Cell::plain(format!("{user}{}", owners(&end.owners)))
}

fn end_json(end: &EndInfo) -> Value {
    let owners = end.owners.iter().map(|owner| {
        json!({
            "pid": owner.pid,
            "executable": owner.executable.as_ref().map(|path| path.to_string_lossy()),
        })
    });
    json!({
        "inode": end.socket.inode,
        "uid": end.socket.uid,
        "processes": owners.collect::<Vec<_>>(),
        "unread_bytes": end.socket.queued,
        "unread_descriptors": end.fds_queued,
        "sent_unread_memory": end.socket.queue_max,
        "send_buffer": end.socket.send_buffer,
        "fill_percent": end.fill(),
    })
}
