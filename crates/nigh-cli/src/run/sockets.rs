//! The sockets that are held for the command, from before it starts until after it has ended.

use std::os::fd::{AsFd as _, OwnedFd};

use nigh_socket::{Existing, Listener, ListenerOptions, Role, SocketKind};
use serde_json::{Value, json};

use super::RunError;
use crate::cli::RunArgs;
use crate::error::Failure;

/// So many descriptors beside those that are kept, and the line, fit below 256.
const SOCKETS_MAX: usize = 64;

/// Bound and listening; their names go with this.
#[derive(Debug)]
pub(crate) struct Sockets {
    held: Vec<(Role, Listener)>,
}

impl Sockets {
    pub(crate) fn bind(args: &RunArgs) -> Result<Self, Failure> {
        if args.listen.len() > SOCKETS_MAX {
            return Err(RunError::TooMany(args.listen.len()).into());
        }
        let mut held = Vec::new();
        for named in &args.listen {
            let listener = options(args, named.listen.role)
                .name(&named.name)
                .bind(named.listen.address.clone())?;
            // A program that knows nothing of this one finds what systemd would pass: a socket that waits.
            rustix::io::ioctl_fionbio(&listener, false).map_err(std::io::Error::from)?;
            held.push((named.listen.role, listener));
        }
        Ok(Self { held })
    }

    /// Each with its name, in order.
    pub(super) fn files(&self) -> Result<Vec<(String, OwnedFd)>, RunError> {
        let copies = self.held.iter().map(|(_, listener)| {
            let file = listener.as_fd().try_clone_to_owned();
            Ok((
                listener.name().to_owned(),
                file.map_err(RunError::Descriptor)?,
            ))
        });
        copies.collect()
    }

    /// Each as it is written on the command line.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = String> {
        self.held
            .iter()
            .map(|(role, listener)| format!("{}{}", role.prefix(), listener.address()))
    }

    pub(super) fn as_json(&self) -> Value {
        let sockets = self.held.iter().map(|(role, listener)| {
            json!({
                "name": listener.name(),
                "address": format!("{}{}", role.prefix(), listener.address()),
                "kind": listener.kind().to_string(),
            })
        });
        sockets.collect()
    }
}

fn options(args: &RunArgs, role: Role) -> ListenerOptions {
    let mut options = Listener::options()
        .kind(match role {
            Role::Drpc | Role::Seqpacket => SocketKind::Seqpacket,
            Role::Datagram => SocketKind::Datagram,
            _ => SocketKind::Stream,
        })
        // What the command wants is not known here; one of ours closes them to descriptors if it takes none.
        .pass_rights(true)
        .existing(match args.replace {
            true => Existing::TakeOver,
            false => Existing::ReplaceStale,
        });
    if let Some(mode) = args.mode {
        options = options.mode(mode);
    }
    if let Some(owner) = &args.owner {
        options = options.owner(owner);
    }
    if let Some(group) = &args.group {
        options = options.group(group);
    }
    options
}
