//! One process of the command: how it is started, and what it says.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nigh_socket::spawn::{Child, Line, Spawn};
use nigh_socket::{Address, Listener, SocketKind, UnixDatagram};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::inbox::{self, Said};
use super::sockets::Sockets;
use super::store::Store;
use super::{Plan, RunError, reap};

/// The longest message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Messages in a row that could not be read before nobody listens any more: the socket is broken then.
const UNREADABLE_MAX: u32 = 64;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Serving,
    /// It has SIGTERM.
    Stopping,
}

impl Phase {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Stopping => "stopping",
        }
    }
}

/// What an instance did, by its number.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) number: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// It has become the command.
    Runs,
    /// It could not.
    NotRun(String),
    Said(Vec<Said>),
}

/// A process of the command.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) number: u64,
    pub(super) child: Child,
    pub(super) phase: Phase,
    pub(super) started: Instant,
    /// When something has to happen: it counts as ready, or is killed.
    pub(super) deadline: Option<Instant>,
    /// When it has been silent for too long.
    pub(super) alive_until: Option<Instant>,
    pub(super) status: String,
    /// Why it never ran.
    pub(super) not_run: Option<String>,
    ear: JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.ear.abort();
    }
}

impl Instance {
    /// Starts it. Trap: it ends with the thread that starts it, so that has to be the one that lives longest.
    pub(super) fn start(
        number: u64,
        plan: &Plan,
        sockets: &Sockets,
        store: &mut Store,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, RunError> {
        let mut passed = sockets.files()?;
        for (name, file) in store.files() {
            let copy = file.try_clone().map_err(RunError::Descriptor)?;
            passed.push((name.to_owned(), copy));
        }
        let options = Listener::options().kind(SocketKind::Datagram);
        let socket = options.pass_credentials(true).bind(Address::Autobind);
        let other = |error| RunError::Descriptor(std::io::Error::other(error));
        let socket = UnixDatagram::bound(socket.map_err(other)?).map_err(RunError::Descriptor)?;
        let (child, line) = command(plan, passed, &socket)?.spawn()?;
        let ear = Ear {
            number,
            pid: child.pid(),
            socket,
            events,
        };
        let now = Instant::now();
        Ok(Self {
            number,
            phase: Phase::Starting,
            started: now,
            deadline: None,
            alive_until: plan.watchdog.map(|patience| now + patience),
            status: String::new(),
            not_run: None,
            ear: tokio::spawn(ear.listen(line)),
            child,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn ran(&self) -> Duration {
        self.started.elapsed()
    }

    /// Asks it to end, and says until when.
    pub(super) fn stop(&mut self, until: Instant) {
        self.phase = Phase::Stopping;
        self.deadline = Some(until);
        self.alive_until = None;
        if let Err(error) = self.child.terminate() {
            tracing::warn!("process {} cannot be told to end: {error}", self.pid());
        }
    }

    /// Kills it and all it has started.
    pub(super) fn kill(&mut self) {
        self.deadline = None;
        self.alive_until = None;
        reap::signal_group(self.pid(), rustix::process::Signal::KILL);
        if let Err(error) = self.child.kill() {
            tracing::warn!("process {} cannot be killed: {error}", self.pid());
        }
    }
}

/// The step that becomes the command, with everything that it gets.
fn command(
    plan: &Plan,
    passed: Vec<(String, OwnedFd)>,
    socket: &UnixDatagram,
) -> Result<Spawn, RunError> {
    let (names, files): (Vec<String>, Vec<OwnedFd>) = passed.into_iter().unzip();
    let Some(Address::Abstract(name)) = socket.local_address().map_err(RunError::Descriptor)?
    else {
        return Err(RunError::Descriptor(
            std::io::ErrorKind::AddrNotAvailable.into(),
        ));
    };
    let nothing = File::open("/dev/null").map_err(RunError::Descriptor)?;
    let mut spawn = Spawn::new("/proc/self/exe")
        .args(["__stage", "--parent", &std::process::id().to_string(), "--"])
        .args(&plan.command)
        .kind(SocketKind::Stream)
        .stdin(nothing)
        .env(
            "NOTIFY_SOCKET",
            format!("@{}", String::from_utf8_lossy(&name)),
        )
        .env("FDSTORE", plan.stored_max.to_string());
    if !files.is_empty() {
        spawn = spawn
            .env("LISTEN_FDS", files.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
    }
    if let Some(patience) = plan.watchdog {
        spawn = spawn.env("WATCHDOG_USEC", patience.as_micros().to_string());
    }
    Ok(spawn.descriptors(files))
}

/// Hears what an instance says.
struct Ear {
    number: u64,
    pid: u32,
    socket: UnixDatagram,
    events: mpsc::Sender<Event>,
}

impl Ear {
    async fn listen(self, line: Line) {
        tokio::join!(self.follow_line(line), self.follow_socket());
    }

    async fn tell(&self, what: What) {
        let number = self.number;
        // Nobody wants to know any more.
        let _ = self.events.send(Event { number, what }).await;
    }

    /// Its end means that the command runs; anything before it, that it does not.
    async fn follow_line(&self, line: Line) {
        let mut message = String::new();
        let read = match line.into_stream() {
            Ok(stream) => stream.take(1024).read_to_string(&mut message).await,
            Err(error) => Err(error),
        };
        self.tell(match (read, message) {
            (Ok(0), _) => What::Runs,
            (Ok(_), message) => What::NotRun(message),
            (Err(error), _) => What::NotRun(error.to_string()),
        })
        .await;
    }

    async fn follow_socket(&self) {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let mut unreadable = 0;
        while unreadable < UNREADABLE_MAX {
            let message = match self.socket.recv(&mut buffer).await {
                Ok(message) => message,
                Err(error) => {
                    tracing::debug!("a message of process {}: {error}", self.pid);
                    unreadable += 1;
                    continue;
                }
            };
            unreadable = 0;
            let sender = message
                .sender
                .and_then(|sender| sender.pid().value().copied());
            // Anybody can send to an abstract name.
            let is_believed = sender
                .is_some_and(|sender| sender == self.pid || reap::is_in_group(sender, self.pid));
            match std::str::from_utf8(&buffer[..message.length]) {
                Ok(text) if is_believed => {
                    self.tell(What::Said(inbox::read(text, message.fds))).await;
                }
                _ => tracing::debug!("a message to process {} is not believed", self.pid),
            }
        }
    }
}
