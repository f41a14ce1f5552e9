//! `nigh handover`: a server's listeners, seen, fetched or given by hand.

use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nigh_socket::handover::{HandoverOptions, Succession};
use nigh_socket::{Listen, Listener, Role, SocketKind};
use serde_json::json;

use super::serve::stop_signals;
use crate::cli::HandoverCommand;
use crate::error::Failure;
use crate::output::{self, Cell, Manner, Style, When};

/// Runs `nigh handover`.
pub(crate) async fn run(command: HandoverCommand, when: When) -> Result<(), Failure> {
    let options = HandoverOptions::default();
    match command {
        HandoverCommand::List { control, json } => {
            let succession = Succession::ask(control, options).await?;
            // Dropped, the hand-over ends, and the server serves on.
            list(&succession, json, when)
        }
        HandoverCommand::Fetch { control, command } => {
            look_for(&command)?;
            fetch(Succession::ask(control, options).await?, &command, when).await
        }
        HandoverCommand::Give { control, addresses } => {
            let succession = Succession::first(control, options)?;
            give(succession, &addresses, when).await
        }
    }
}

fn list(succession: &Succession, as_json: bool, when: When) -> Result<(), Failure> {
    let server = succession.predecessor();
    let server = server
        .map(|peer| peer.with_names().to_string())
        .unwrap_or_default();
    if as_json {
        for listener in succession.inherited() {
            output::print_json(&json!({
                "address": listener.address().to_string(),
                "kind": listener.kind().to_string(),
                "name": listener.name(),
                "server": server,
            }))?;
        }
        return Ok(());
    }
    let cells: Vec<Vec<Cell>> = succession
        .inherited()
        .iter()
        .map(|listener| {
            vec![
                Cell::new(Style::Strong, listener.address().to_string()),
                Cell::plain(listener.kind().to_string()),
                Cell::plain(listener.name()),
            ]
        })
        .collect();
    let table = Manner::stdout(when).table(&["ADDRESS", "KIND", "NAME"], &cells);
    output::print(&format!("{table}\nserved by {server}\n"))?;
    Ok(())
}

/// Takes everything over, and becomes the command, which inherits the listeners.
async fn fetch(mut succession: Succession, command: &[String], when: When) -> Result<(), Failure> {
    let listeners = succession.take_as_they_are();
    let taken: Vec<&Listener> = listeners.iter().collect();
    let mut tenure = succession.take_over(&taken).await?;
    let numbers: Vec<RawFd> = listeners
        .iter()
        .map(|listener| listener.as_raw_fd())
        .collect();
    for (place, listener) in listeners.iter().enumerate() {
        let number = listener.as_raw_fd();
        let text = format!("{{{place}}} is descriptor {number}: {}", listener.address());
        output::note(when, &text);
        rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty())
            .map_err(std::io::Error::from)?;
    }
    let words = command.iter().map(|word| filled(word, &numbers));
    let words: Vec<String> = words.collect();
    let [program, arguments @ ..] = words.as_slice() else {
        return Ok(());
    };
    // The old server ends its work, and does not take this for a crash; nobody can ask this process.
    drop(
        tenure
            .take_predecessor()
            .map(|predecessor| predecessor.farewell()),
    );
    drop(tenure);
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::NotRun {
        program: program.clone(),
        source: error,
    })
}

/// Nothing is taken over for a command that is not there.
fn look_for(command: &[String]) -> Result<(), Failure> {
    let program = command.first().map_or("", String::as_str);
    let is_there = |path: &Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    let found = match program.contains('/') {
        true => is_there(Path::new(program)),
        false => std::env::var_os("PATH").is_some_and(|paths| {
            std::env::split_paths(&paths).any(|folder| is_there(&folder.join(program)))
        }),
    };
    match found {
        true => Ok(()),
        false => Err(Failure::NotRun {
            program: program.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

/// `{0}` stands for the number of the first listener's descriptor.
fn filled(word: &str, numbers: &[RawFd]) -> String {
    let numbers = numbers.iter().enumerate();
    numbers.fold(word.to_owned(), |word, (place, number)| {
        word.replace(&format!("{{{place}}}"), &number.to_string())
    })
}

/// Binds the addresses, and holds them until somebody fetches them.
async fn give(mut succession: Succession, addresses: &[Listen], when: When) -> Result<(), Failure> {
    let (stop, _cut) = stop_signals()?;
    let mut listeners = Vec::new();
    for listen in addresses {
        let kind = match listen.role {
            Role::Drpc | Role::Seqpacket => SocketKind::Seqpacket,
            Role::Datagram => SocketKind::Datagram,
            _ => SocketKind::Stream,
        };
        let options = Listener::options().kind(kind);
        listeners.push(succession.listen(&options, listen.address.clone())?);
    }
    let listeners: Vec<&Listener> = listeners.iter().collect();
    let mut tenure = succession.take_over(&listeners).await?;
    let control = Manner::stdout(when).paint(Style::Strong, &tenure.control().to_string());
    output::print(&format!("holding {} for {control}\n", listeners.len()))?;
    let giving = async {
        loop {
            let request = tenure.request().await?;
            let who = request.peer().with_names().to_string();
            let given = async { request.offer(&listeners).await?.give(&listeners).await };
            match given.await {
                Ok(_given) => return Ok::<_, Failure>(who),
                Err(error) => output::note(when, &error.to_string()),
            }
        }
    };
    tokio::select! {
        who = giving => output::note(when, &format!("given to {}", who?)),
        _ = stop => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn places_become_numbers() {
        assert_eq!(filled("fd:{0}", &[7, 9]), "fd:7");
        assert_eq!(filled("{1},{0}", &[7, 9]), "9,7");
        assert_eq!(filled("{2} {x}", &[7, 9]), "{2} {x}");
    }
}
