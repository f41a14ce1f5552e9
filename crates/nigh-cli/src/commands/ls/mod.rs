//! `nigh ls`: every listening Unix socket, where clients find it, who may connect, who serves it, and what is odd.

mod watch;

use nigh_socket::introspect::{
    self, ListenerInfo, Location, Mark, Name, SocketFile, State, Stray, Survey,
};
use nigh_socket::{Address, SocketKind, group_name, user_name};
use serde_json::{Value, json};

use crate::cli::LsArgs;
use crate::error::Failure;
use crate::output::{self, Cell, Manner, Style, When};

const HEADINGS: [&str; 7] = [
    "ADDRESS", "TYPE", "OWNER", "MODE", "BACKLOG", "SERVER", "MARKS",
];

/// Runs `nigh ls`.
pub(crate) fn run(args: &LsArgs, when: When) -> Result<(), Failure> {
    if args.watch {
        return watch::run(args, when);
    }
    let survey = introspect::survey(&introspect::usual_directories())?;
    let entries = entries(&survey);
    if args.json {
        for entry in &entries {
            output::print_json(&entry.as_json())?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = entries.iter().map(Entry::as_row).collect();
    output::print(&Manner::stdout(when).table(&HEADINGS, &rows))?;
    if survey.hidden_processes > 0 {
        let hidden = survey.hidden_processes;
        output::note(
            when,
            &format!(
                "{hidden} processes of other users were not looked into; root sees all servers"
            ),
        );
    }
    Ok(())
}

/// Every line of the list.
fn entries(survey: &Survey) -> Vec<Entry<'_>> {
    let listeners = survey.listeners.iter().map(Entry::of_listener);
    let strays = survey.strays.iter().map(Entry::of_stray);
    listeners.chain(strays).collect()
}

/// One line of the list.
struct Entry<'a> {
    address: Option<Address>,
    listener: Option<&'a ListenerInfo>,
    file: Option<&'a SocketFile>,
    marks: Vec<Mark>,
}

impl<'a> Entry<'a> {
    fn of_listener(listener: &'a ListenerInfo) -> Self {
        let address = match (&listener.location, &listener.socket.name) {
            (Location::File(file), _) => Some(Address::Path(file.path.clone())),
            (Location::Replaced(path) | Location::Removed(path), _) | (_, Name::Path(path)) => {
                Some(Address::Path(path.clone()))
            }
            (_, Name::Abstract(name)) => Some(Address::Abstract(name.clone())),
            (_, Name::Unnamed) => None,
        };
        Self {
            address,
            listener: Some(listener),
            file: listener.file(),
            marks: listener.marks(),
        }
    }

    fn of_stray(stray: &'a Stray) -> Self {
        Self {
            address: Some(Address::Path(stray.file.path.clone())),
            listener: None,
            file: Some(&stray.file),
            marks: vec![stray.mark()],
        }
    }

    fn kind(&self) -> Option<&'static str> {
        Some(match self.listener?.socket.kind? {
            SocketKind::Stream => "stream",
            SocketKind::Seqpacket => "seqpacket",
            SocketKind::Datagram => "dgram",
            _ => return None,
        })
    }

    /// Clients that wait and how many may; only a socket that listens has either.
    fn backlog(&self) -> Option<(u32, u32)> {
        let socket = &self.listener?.socket;
        (socket.state == State::Listening).then_some((socket.queued, socket.queue_max))
    }

    fn as_row(&self) -> Vec<Cell> {
        let dash = || Cell::new(Style::Faint, "-");
        let or_dash = |text: Option<String>| text.map_or_else(dash, Cell::plain);
        let address = self.address.as_ref().map(ToString::to_string);
        let owner = self
            .file
            .map(|file| format!("{}:{}", user(file.uid), group(file.gid)));
        let mode = self.file.map(|file| format!("{:04o}", file.mode));
        let backlog = self
            .backlog()
            .map(|(queued, max)| format!("{queued}/{max}"));
        vec![
            or_dash(address),
            or_dash(self.kind().map(Into::into)),
            or_dash(owner),
            or_dash(mode),
            or_dash(backlog),
            or_dash(self.server()),
            self.marks_cell(),
        ]
    }

    /// The processes that hold the socket, each with the name of its program.
    fn server(&self) -> Option<String> {
        let owners = &self.listener?.owners;
        let names = owners.iter().map(|owner| {
            let program = owner.executable.as_ref().and_then(|path| path.file_name());
            match program {
                Some(program) => format!("{} {}", owner.pid, program.to_string_lossy()),
                None => owner.pid.to_string(),
            }
        });
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn marks_cell(&self) -> Cell {
        let broken = |mark: &Mark| {
            matches!(
                mark,
                Mark::Stale | Mark::Replaced | Mark::Removed | Mark::BacklogFull
            )
        };
        let style = if self.marks.iter().any(broken) {
            Style::Bad
        } else {
            Style::Warning
        };
        let names: Vec<String> = self
            .marks
            .iter()
            .map(|mark| mark.to_string().to_uppercase())
            .collect();
        Cell::new(style, names.join(" "))
    }

    fn as_json(&self) -> Value {
        let socket = self.listener.map(|listener| &listener.socket);
        let servers = self.listener.iter().flat_map(|listener| &listener.owners);
        json!({
            "address": self.address.as_ref().map(ToString::to_string),
            "type": self.kind(),
            "listening": socket.is_some_and(|socket| socket.state == State::Listening),
            "file": self.file.map(|file| json!({
                "uid": file.uid,
                "user": name(user_name(file.uid)),
                "gid": file.gid,
                "group": name(group_name(file.gid)),
                "mode": format!("{:04o}", file.mode),
            })),
            "backlog": self.backlog().map(|(queued, max)| json!({"queued": queued, "max": max})),
            "servers": servers.map(|owner| json!({
                "pid": owner.pid,
                "executable": owner.executable.as_ref().map(|path| path.to_string_lossy()),
            })).collect::<Vec<_>>(),
            "inode": socket.map(|socket| socket.inode),
            "marks": self.marks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

/// A name to show; a database that does not answer leaves the number.
fn name<E>(answer: Result<Option<String>, E>) -> Option<String> {
    answer.ok().flatten()
}

fn user(uid: u32) -> String {
    name(user_name(uid)).unwrap_or_else(|| uid.to_string())
}

fn group(gid: u32) -> String {
    name(group_name(gid)).unwrap_or_else(|| gid.to_string())
}
