//! Prints records, and says what came with them: descriptors, and who wrote them.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nigh_socket::fdcheck::{self, Access};
use nigh_socket::{Address, Fact, FileKind, Sender, user_name};
use serde_json::{Map, Value, json};

use crate::cli::ShowArgs;
use crate::output::{self, Manner, When};
use crate::pipe::Piece;
use crate::tap::decode::hex;
use crate::tap::proxy::describe;

/// A record that came.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) fds_lost: bool,
    pub(super) sender: Option<Sender>,
    pub(super) from: Option<Address>,
    /// Number of the caller, from 1; none where there is only one.
    pub(super) caller: Option<u64>,
}

impl Record {
    pub(super) fn new(bytes: Vec<u8>, piece: Piece) -> Self {
        Self {
            bytes,
            fds: piece.fds,
            fds_lost: piece.fds_lost,
            sender: piece.sender,
            from: piece.from,
            caller: None,
        }
    }
}

/// Where and how records are printed.
#[derive(Debug)]
pub(super) struct Printer {
    show: ShowArgs,
    when: When,
    printed: u64,
}

impl Printer {
    pub(super) fn new(show: ShowArgs, when: When) -> Self {
        let printed = 0;
        Self {
            show,
            when,
            printed,
        }
    }

    /// How many records were printed.
    pub(super) fn printed(&self) -> u64 {
        self.printed
    }

    pub(super) fn print(&mut self, record: &Record) -> io::Result<()> {
        self.printed += 1;
        if self.show.json {
            return output::print_json(&self.as_json(record));
        }
        for line in self.remarks(record) {
            output::note(self.when, &format!("record {}: {line}", self.printed));
        }
        let mut stdout = io::stdout().lock();
        if self.show.hex {
            stdout.write_all(hex(&record.bytes).as_bytes())?;
        } else if Manner::stdout(self.when).is_terminal() {
            let text = String::from_utf8_lossy(&record.bytes);
            stdout.write_all(output::visible(&text).as_bytes())?;
        } else {
            stdout.write_all(&record.bytes)?;
        }
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    fn remarks(&self, record: &Record) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(caller) = record.caller.filter(|_| self.show.creds) {
            lines.push(format!("caller {caller}"));
        }
        if let Some(from) = record.from.as_ref().filter(|_| self.show.creds) {
            lines.push(format!("from {from}"));
        }
        if let Some(sender) = &record.sender {
            lines.push(format!("written by {}", person(sender)));
        }
        for (number, fd) in record.fds.iter().enumerate() {
            lines.push(format!("descriptor {number}: {}", words(fd)));
        }
        if record.fds_lost {
            lines.push("descriptors were lost: this process may open no more".to_owned());
        }
        lines
    }

    fn as_json(&self, record: &Record) -> Value {
        let mut object = Map::new();
        object.insert("record".into(), self.printed.into());
        object.insert("length".into(), record.bytes.len().into());
        match std::str::from_utf8(&record.bytes) {
            Ok(text) if !self.show.hex => object.insert("text".into(), text.into()),
            _ => object.insert("hex".into(), hex(&record.bytes).into()),
        };
        if let Some(caller) = record.caller {
            object.insert("caller".into(), caller.into());
        }
        if let Some(from) = &record.from {
            object.insert("from".into(), from.to_string().into());
        }
        if let Some(sender) = &record.sender {
            object.insert("sender".into(), sender_json(sender));
        }
        if !record.fds.is_empty() {
            let fds: Vec<Value> = record.fds.iter().map(fd_json).collect();
            object.insert("descriptors".into(), fds.into());
        }
        if record.fds_lost {
            object.insert("descriptors_lost".into(), true.into());
        }
        Value::Object(object)
    }
}

fn program(sender: &Sender) -> Option<String> {
    let Fact::Known { value, .. } = sender.process() else {
        return None;
    };
    let path = value.executable().ok()?;
    Some(path.to_string_lossy().into_owned())
}

fn person(sender: &Sender) -> String {
    let name = sender.uid().value().and_then(|uid| user_name(*uid).ok()?);
    let name = name.map_or_else(String::new, |name| format!(" ({name})"));
    let program = program(sender).map_or_else(String::new, |path| format!(", {path}"));
    format!(
        "uid {}{name} gid {} pid {}{program}",
        sender.uid(),
        sender.gid(),
        sender.pid()
    )
}

fn sender_json(sender: &Sender) -> Value {
    json!({
        "uid": sender.uid().value(),
        "gid": sender.gid().value(),
        "pid": sender.pid().value(),
        "executable": program(sender),
    })
}

/// What is known of a descriptor; what cannot be found out is said so.
fn words(fd: &OwnedFd) -> String {
    let kind = fdcheck::kind(fd).map_or_else(|error| error.to_string(), kind_words);
    let access = fdcheck::access(fd).map_or_else(|error| error.to_string(), |a| a.to_string());
    let socket = socket_type(fd).map_or_else(String::new, |kind| format!(" of type {kind}"));
    let sealed = match fdcheck::require_sealed(fd) {
        Ok(()) => ", sealed",
        Err(_) => "",
    };
    format!("{}: {kind}{socket}, open {access}{sealed}", describe(fd))
}

fn kind_words(kind: FileKind) -> String {
    match kind {
        FileKind::Other => "no file of the file system".to_owned(),
        kind => kind.to_string(),
    }
}

fn socket_type(fd: &OwnedFd) -> Option<&'static str> {
    use rustix::net::SocketType;
    Some(match rustix::net::sockopt::socket_type(fd.as_fd()).ok()? {
        SocketType::STREAM => "stream",
        SocketType::SEQPACKET => "seqpacket",
        SocketType::DGRAM => "dgram",
        _ => return None,
    })
}

fn fd_json(fd: &OwnedFd) -> Value {
    let access = fdcheck::access(fd).ok().map(|access| match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "read-write",
        _ => "path",
    });
    json!({
        "name": describe(fd),
        "kind": fdcheck::kind(fd).ok().map(kind_words),
        "access": access,
        "socket": socket_type(fd),
        "sealed": fdcheck::require_sealed(fd).is_ok(),
    })
}
