//! `nigh doctor`: what this kernel and system allow, what that means for nigh, and who holds a name.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nigh_socket::introspect::{self, State};
use nigh_socket::{Address, ConnectOptions, Offer, SocketKind, facilities, resolve};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::error::Failure;
use crate::output::{self, Cell, Manner, Style, When};

/// What nigh asks for: callers that may wait at a listener.
const BACKLOG: u64 = 4096;
/// Longest packet whatever the buffer: 4 MiB in one piece and 17 pages, less the kernel's own part.
const PACKET_BYTES_CEILING: u64 = 4 * 1024 * 1024 + 17 * 4096 - 320;

/// Runs `nigh doctor`.
pub(crate) async fn run(args: DoctorArgs, when: When) -> Result<(), Failure> {
    let mut findings = kernel();
    findings.extend(limits());
    if let Some(place) = &args.place {
        let options = ConnectOptions::default().wait(false);
        let address = resolve(&place.address, &options).await?;
        findings.extend(name(&address)?);
    }
    if args.json {
        for finding in &findings {
            output::print_json(&finding.as_json())?;
        }
        return Ok(());
    }
    let manner = Manner::stdout(when);
    let mut text = String::new();
    for subject in ["kernel", "limit", "name"] {
        let rows: Vec<Vec<Cell>> = findings
            .iter()
            .filter(|finding| finding.subject == subject)
            .map(Finding::as_row)
            .collect();
        if rows.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let heading = subject.to_uppercase();
        text.push_str(&manner.table(&[&heading, "IS", "SO", "ADVICE"], &rows));
    }
    Ok(output::print(&text)?)
}

/// One thing that was found out.
#[derive(Debug)]
struct Finding {
    subject: &'static str,
    what: String,
    is: String,
    style: Style,
    meaning: String,
    advice: Option<String>,
}

impl Finding {
    fn new(subject: &'static str, what: impl Into<String>, is: impl Into<String>) -> Self {
        Self {
            subject,
            what: what.into(),
            is: is.into(),
            style: Style::Plain,
            meaning: String::new(),
            advice: None,
        }
    }

    fn good(self) -> Self {
        let style = Style::Good;
        Self { style, ..self }
    }

    fn odd(self) -> Self {
        let style = Style::Warning;
        Self { style, ..self }
    }

    fn meaning(self, text: impl Into<String>) -> Self {
        let meaning = text.into();
        Self { meaning, ..self }
    }

    fn advice(self, text: impl Into<String>) -> Self {
        let advice = Some(text.into());
        Self { advice, ..self }
    }

    fn as_row(&self) -> Vec<Cell> {
        vec![
            Cell::plain(&self.what),
            Cell::new(self.style, &self.is),
            Cell::plain(&self.meaning),
            Cell::plain(self.advice.as_deref().unwrap_or_default()),
        ]
    }

    fn as_json(&self) -> Value {
        json!({
            "subject": self.subject,
            "what": self.what,
            "is": self.is,
            "odd": self.style == Style::Warning,
            "means": self.meaning,
            "advice": self.advice,
        })
    }
}

fn kernel() -> Vec<Finding> {
    let found = facilities().into_iter().map(|(facility, offer)| {
        let finding = |is: &str| Finding::new("kernel", facility.name(), is);
        match offer {
            Offer::Yes => finding("there").good().meaning(facility.meaning(true)),
            Offer::No => finding("not there").odd().meaning(facility.meaning(false)),
            Offer::Unknown(error) => finding(&format!("unknown: {error}"))
                .odd()
                .meaning(facility.meaning(false))
                .advice("see whether a sandbox forbids it"),
            _ => finding("unknown").odd(),
        }
    });
    found.chain([namespaces(), processes()]).collect()
}

/// Whether an ordinary user can make user namespaces, in which ids of others are unknown.
fn namespaces() -> Finding {
    let what = "user namespaces";
    let most = number("/proc/sys/user/max_user_namespaces");
    let switched = number("/proc/sys/kernel/unprivileged_userns_clone");
    let confined = number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let finding = match (most, switched, confined) {
        (Err(_) | Ok(0), _, _) => Finding::new("kernel", what, "not there"),
        (_, Ok(0), _) => Finding::new("kernel", what, "for root only"),
        (_, _, Ok(1)) => Finding::new("kernel", what, "for confined programs only"),
        _ => Finding::new("kernel", what, "there").good(),
    };
    finding
        .meaning("a caller from one has ids that mean nothing here, and is admitted by `any` only")
}

/// Whether `/proc` shows other processes at all.
fn processes() -> Finding {
    let what = "/proc";
    match fs::read_to_string("/proc/1/stat") {
        Ok(_) => Finding::new("kernel", what, "shows all processes")
            .good()
            .meaning("paths over 107 bytes work, and peers' programs can be named"),
        Err(error) => Finding::new("kernel", what, error.to_string())
            .odd()
            .meaning("peers' programs are unknown; without /proc no path can be bound")
            .advice("mount /proc without hidepid="),
    }
}

fn number(path: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(io::Error::other)
}

fn limits() -> Vec<Finding> {
    let mut findings = vec![backlog(), datagrams()];
    findings.extend(packets());
    findings.push(descriptors());
    findings
}

fn limit(name: &str, found: &io::Result<u64>) -> Finding {
    match found {
        Ok(value) => Finding::new("limit", name, value.to_string()),
        Err(error) => Finding::new("limit", name, format!("unknown: {error}")).odd(),
    }
}

fn backlog() -> Finding {
    let name = "net.core.somaxconn";
    let found = number("/proc/sys/net/core/somaxconn");
    let finding = limit(name, &found);
    match found {
        Ok(most) if most < BACKLOG => finding
            .odd()
            .meaning(format!(
                "{most} callers may wait at a listener, not {BACKLOG}"
            ))
            .advice(format!("sysctl -w {name}={BACKLOG}")),
        _ => finding.meaning(format!(
            "{BACKLOG} callers may wait at a listener; more have to try again"
        )),
    }
}

fn datagrams() -> Finding {
    let name = "net.unix.max_dgram_qlen";
    let found = number("/proc/sys/net/unix/max_dgram_qlen");
    let most = found.as_ref().map_or(10, |most| *most);
    let finding = limit(name, &found).meaning(format!(
        "{} datagrams wait at a receiver, whoever sent them; then all senders wait",
        most.saturating_add(1)
    ));
    match most {
        0..64 => finding.advice(format!(
            "use seqpacket between many, or sysctl -w {name}=512 before the receiver starts"
        )),
        _ => finding,
    }
}

fn packets() -> Vec<Finding> {
    let table = [
        (
            "net.core.wmem_default",
            "/proc/sys/net/core/wmem_default",
            1,
        ),
        ("net.core.wmem_max", "/proc/sys/net/core/wmem_max", 2),
    ];
    let found = table.into_iter().map(|(name, path, times)| {
        let found = number(path);
        let finding = limit(name, &found);
        let Ok(bytes) = found else {
            return finding;
        };
        let longest = (bytes.saturating_mul(times))
            .saturating_sub(32)
            .min(PACKET_BYTES_CEILING);
        let when = match times {
            1 => "unless its sender asks for more",
            _ => "if its sender asks for it",
        };
        let finding = finding.meaning(format!("a packet may have {longest} bytes {when}"));
        match times == 2 && longest < 1 << 20 {
            true => finding.advice("send more than that as a sealed memory file, or raise it"),
            false => finding,
        }
    });
    found.collect()
}

fn descriptors() -> Finding {
    let limits = getrlimit(Resource::Nofile);
    let soft = limits.current.unwrap_or(u64::MAX);
    let hard = limits
        .maximum
        .map_or_else(|| "no limit".to_owned(), |hard| hard.to_string());
    let finding = Finding::new("limit", "RLIMIT_NOFILE", format!("{soft} of {hard}")).meaning(format!(
        "a server keeps to {} connections, and this user may have about {soft} descriptors on their way",
        (soft / 3).min(1024)
    ));
    match soft < 4096 {
        true => finding
            .odd()
            .advice("ulimit -n, or LimitNOFILE= in its unit"),
        false => finding,
    }
}

/// Who holds a name, and what stands in the way to it.
fn name(address: &Address) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    if let Address::Path(path) = address {
        findings.extend(way(path));
    }
    let peers = introspect::peers(address)?;
    if peers.listeners.is_empty() {
        findings.push(nobody(address));
    }
    for listener in &peers.listeners {
        let kind = listener
            .socket
            .kind
            .map_or_else(|| "unknown".to_owned(), |kind| kind.to_string());
        let who: Vec<String> = listener
            .owners
            .iter()
            .map(|owner| match &owner.executable {
                Some(path) => format!("{} {}", owner.pid, path.display()),
                None => owner.pid.to_string(),
            })
            .collect();
        let finding = Finding::new(
            "name",
            format!("{kind} socket"),
            match who.is_empty() {
                true => "held by a process this user may not see".to_owned(),
                false => format!("held by {}", who.join(", ")),
            },
        );
        findings.push(match (listener.socket.state, who.len()) {
            (_, 2..) => finding
                .odd()
                .meaning("the name stays in use until the last of them has closed it")
                .advice("if one is a child that should not have it: open sockets close-on-exec"),
            (State::Listening, _) => finding.good().meaning("callers are accepted"),
            (_, _) if listener.socket.kind == Some(SocketKind::Datagram) => {
                finding.good().meaning("datagrams are received")
            }
            _ => finding
                .odd()
                .meaning("it does not listen (yet): callers are refused"),
        });
        let socket = &listener.socket;
        if socket.state == State::Listening && socket.queued > socket.queue_max {
            findings.push(
                Finding::new(
                    "name",
                    "queue",
                    format!("{} of {}", socket.queued, socket.queue_max),
                )
                .odd()
                .meaning("the queue is full: the next caller has to try again")
                .advice("`nigh peers ADDR` names those who wait"),
            );
        }
    }
    if matches!(address, Address::Abstract(_)) {
        findings.push(
            Finding::new("name", "permissions", "none")
                .odd()
                .meaning("every user of this network namespace may connect, or take the name first")
                .advice("have servers admit by policy, and clients demand who the server is"),
        );
    }
    Ok(findings)
}

fn nobody(address: &Address) -> Finding {
    let there = match address {
        Address::Path(path) => fs::symlink_metadata(path).ok(),
        _ => None,
    };
    let finding = |is: &str| Finding::new("name", address.to_string(), is).odd();
    match there {
        Some(file) if file.file_type().is_socket() => finding("a socket that nobody here serves")
            .meaning(
                "its server died without removing it, or serves it from another network namespace",
            )
            .advice("the next nigh server replaces it; `nigh ls` tells the two apart"),
        Some(_) => finding("no socket").meaning("callers are refused, and no server replaces it"),
        None => finding("nothing").meaning("no server is there"),
    }
}

/// Each directory on the way, where others could put theirs in its place, and the socket file itself.
fn way(path: &Path) -> Vec<Finding> {
    let Ok(path) = std::path::absolute(path) else {
        return Vec::new();
    };
    let mut findings: Vec<Finding> = path
        .ancestors()
        .skip(1)
        .filter_map(|directory| {
            let found = fs::metadata(directory).ok()?;
            let mode = found.mode() & 0o7777;
            let is_open = mode & 0o002 != 0 && mode & 0o1000 == 0;
            is_open.then(|| {
                Finding::new(
                    "name",
                    directory.display().to_string(),
                    format!("mode {mode:04o}"),
                )
                .odd()
                .meaning("anybody can put another socket in place of this one")
                .advice("use a directory of the server's own, or set the sticky bit")
            })
        })
        .collect();
    if let Ok(file) = fs::symlink_metadata(&path) {
        let mode = file.mode() & 0o7777;
        let finding = Finding::new(
            "name",
            path.display().to_string(),
            format!("mode {mode:04o}, uid {}, gid {}", file.uid(), file.gid()),
        );
        findings.push(match mode & 0o222 {
            0 => finding.odd().meaning("nobody but root can connect"),
            bits if bits & 0o002 != 0 => finding.meaning("every user who gets to it may connect"),
            bits if bits & 0o020 != 0 => finding.meaning("its owner and its group may connect"),
            _ => finding.meaning("its owner may connect"),
        });
    }
    findings
}
