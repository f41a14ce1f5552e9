//! What is known of a peer, as the reply of `WhoAmI`: the one place that turns the library's facts into words.
//!
//! Trap: names come from the user databases and details from `/proc`; both may block, so handlers call this off the reactor.

use std::path::Path;

use nigh_socket::{Fact, LocalPeer, Peer, Process, ProcessError, UserError, group_name, user_name};

use super::pb::groups_fact::Group;
use super::pb::who_am_i_reply::Kind;
use super::pb::{GroupsFact, IdFact, TextFact, WhoAmIReply};

/// Describes a peer; listener and wire are the caller's to add.
pub(crate) fn describe(peer: &Peer) -> WhoAmIReply {
    let mut reply = match peer {
        Peer::Local(peer) => local(peer),
        Peer::Tls(peer) => WhoAmIReply {
            kind: Kind::Tls.into(),
            address: peer.address().to_string(),
            certificate: peer.certificate().unwrap_or_default().to_vec().into(),
            ..WhoAmIReply::default()
        },
        Peer::Remote(peer) => WhoAmIReply {
            kind: Kind::Remote.into(),
            address: peer.address().to_string(),
            ..WhoAmIReply::default()
        },
        _ => WhoAmIReply::default(),
    };
    reply.summary = peer.with_names().to_string();
    reply
}

fn local(peer: &LocalPeer) -> WhoAmIReply {
    let executable = |process: &Process| Ok(Some(text_of(&process.executable()?)));
    let cgroup = |process: &Process| Ok(Some(text_of(&process.cgroup()?)));
    let unit = |process: &Process| Ok(process.unit()?.map(|unit| unit.to_string()));
    WhoAmIReply {
        kind: Kind::Local.into(),
        uid: Some(id(peer.uid(), user_name)),
        gid: Some(id(peer.gid(), group_name)),
        groups: Some(groups(peer)),
        pid: Some(id(peer.pid(), |_| Ok(None))),
        executable: Some(of_process(peer, "/proc/PID/exe", executable)),
        cgroup: Some(of_process(peer, "/proc/PID/cgroup", cgroup)),
        unit: Some(of_process(peer, "/proc/PID/cgroup", unit)),
        label: Some(label(peer.label())),
        ..WhoAmIReply::default()
    }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn id(fact: &Fact<u32>, name: impl FnOnce(u32) -> Result<Option<String>, UserError>) -> IdFact {
    let source = fact.source().to_string();
    match fact {
        Fact::Known { value, .. } => IdFact {
            id: Some(*value),
            // A decoration: a database that does not answer leaves the number.
            name: name(*value).ok().flatten().unwrap_or_default(),
            source,
            ..IdFact::default()
        },
        Fact::Unknown { why, .. } => IdFact {
            source,
            unknown: why.to_string(),
            ..IdFact::default()
        },
    }
}

fn groups(peer: &LocalPeer) -> GroupsFact {
    let fact = peer.groups();
    let source = fact.source().to_string();
    match fact {
        Fact::Known { value, .. } => GroupsFact {
            groups: value
                .iter()
                .map(|&id| Group {
                    id,
                    name: group_name(id).ok().flatten().unwrap_or_default(),
                })
                .collect(),
            source,
            unknown: match peer.unmapped_groups() {
                0 => String::new(),
                n => format!("{n} more have no id in this user namespace"),
            },
        },
        Fact::Unknown { why, .. } => GroupsFact {
            source,
            unknown: why.to_string(),
            ..GroupsFact::default()
        },
    }
}

/// A text read through the process's pidfd; without a pidfd there is none.
fn of_process(
    peer: &LocalPeer,
    place: &str,
    read: impl FnOnce(&Process) -> Result<Option<String>, ProcessError>,
) -> TextFact {
    let pidfd = peer.process().source();
    let source = format!("{pidfd}, {place}");
    let (text, unknown) = match peer.process() {
        Fact::Unknown { why, .. } => (None, why.to_string()),
        Fact::Known { value, .. } => match read(value) {
            Ok(text) => (text, String::new()),
            Err(error) => (None, error.to_string()),
        },
    };
    TextFact {
        text,
        source,
        unknown,
    }
}

fn label(fact: &Fact<Vec<u8>>) -> TextFact {
    let source = fact.source().to_string();
    match fact {
        Fact::Known { value, .. } => TextFact {
            text: Some(value.escape_ascii().to_string()),
            source,
            ..TextFact::default()
        },
        Fact::Unknown { why, .. } => TextFact {
            source,
            unknown: why.to_string(),
            ..TextFact::default()
        },
    }
}
