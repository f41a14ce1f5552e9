//! A daemon in this process, on a private socket, for as long as the test holds it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nigh::{Address, Channel, Drained, Existing, Listener, Server, ServerError, Wire};
use nigh_flagd::eval::{Evaluator, Fractional, Integers};
use nigh_flagd::service::proto::evaluation::v2::ResolveIntRequest;
use nigh_flagd::service::{Flagd, Options};
use nigh_flagd::source::{Address as Source, Hub, Sources};
use nigh_testkit::TempSocket;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest time for the next line of a log.
const LOG_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Daemon {
    pub(crate) socket: TempSocket,
    pub(crate) hub: Arc<Hub>,
    pub(crate) flagd: Flagd,
    _sources: Sources,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<Drained, ServerError>>,
}

/// What flag `a` is.
pub(crate) fn question() -> ResolveIntRequest {
    ResolveIntRequest {
        flag_key: "a".into(),
        context: None,
    }
}

pub(crate) async fn connect(socket: &TempSocket, wire: Wire) -> Channel {
    let options = Channel::options().wire(wire);
    options.connect(socket.address().as_str()).await.unwrap()
}

pub(crate) async fn hub(sources: &[Source], fractional: Fractional) -> (Arc<Hub>, Sources) {
    let hub = Hub::new(
        sources,
        Evaluator::new(fractional, Integers::Truncate).unwrap(),
    );
    let following = Sources::start(sources, &hub).await.unwrap();
    (hub, following)
}

impl Daemon {
    pub(crate) async fn start(
        sources: &[Source],
        fractional: Fractional,
        options: Options,
    ) -> Self {
        Self::start_on(TempSocket::private(), sources, fractional, options).await
    }

    async fn start_on(
        socket: TempSocket,
        sources: &[Source],
        fractional: Fractional,
        options: Options,
    ) -> Self {
        let (hub, following) = hub(sources, fractional).await;
        let listener = Listener::options()
            .existing(Existing::ReplaceStale)
            .bind(socket.address().as_str())
            .unwrap();
        let flagd = Flagd::new(Arc::clone(&hub), options);
        let server = flagd.serve_on(Server::new()).listen(listener);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopping = flagd.clone();
        let running = tokio::spawn(server.run(async move {
            drop(stopped.await);
            stopping.stop();
        }));
        Self {
            socket,
            hub,
            flagd,
            _sources: following,
            stop: Some(stop),
            running,
        }
    }

    /// Stops, and starts again on the same socket.
    pub(crate) async fn restarted(mut self, sources: &[Source]) -> Self {
        self.begin_to_stop();
        let socket = self.socket;
        self.running.await.unwrap().unwrap();
        Self::at(socket, sources).await
    }

    /// On a socket that somebody knows already.
    pub(crate) async fn at(socket: TempSocket, sources: &[Source]) -> Self {
        Self::start_on(socket, sources, Fractional::V2, Options::default()).await
    }

    pub(crate) async fn of(file: &Path) -> Self {
        Self::start(&[source(file)], Fractional::V2, Options::default()).await
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address: Address = self.socket.address().parse().unwrap();
        Channel::connect(&address).await.unwrap()
    }

    pub(crate) fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(self) -> Drained {
        self.running.await.unwrap().unwrap()
    }
}

pub(crate) fn source(file: &Path) -> Source {
    Source::parse(&format!("file:{}", file.display())).unwrap()
}

/// Says something of a test that passes, which `println!` would keep to itself.
pub(crate) fn tell(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

/// A file of flags in a directory of its own.
pub(crate) struct Flags {
    _directory: TempDir,
    pub(crate) path: PathBuf,
}

impl Flags {
    pub(crate) fn new(flags: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flags.json");
        std::fs::write(&path, json!({ "flags": flags }).to_string()).unwrap();
        Self {
            _directory: directory,
            path,
        }
    }

    /// Puts other flags in place, whole.
    pub(crate) fn replace(&self, flags: &Value) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, json!({ "flags": flags }).to_string()).unwrap();
        std::fs::rename(new, &self.path).unwrap();
    }
}

pub(crate) fn flag(value: impl Into<Value>) -> Value {
    json!({"state": "ENABLED", "variants": {"v": value.into()}, "defaultVariant": "v"})
}

/// A daemon in a process of its own, killed when dropped, and its log.
pub(crate) struct Running {
    child: Child,
    log: mpsc::Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (told, log) = mpsc::channel();
        // Read to its end, so that the daemon never waits for a reader.
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .all(|line| told.send(line).is_ok())
        });
        Self { child, log }
    }

    /// A daemon on `socket`, ready for calls.
    pub(crate) fn serving(socket: &Path, arguments: &[&str]) -> Self {
        Self::serving_in(&[], socket, arguments)
    }

    /// As [`serving`](Self::serving), started by another program.
    pub(crate) fn serving_in(starter: &[&str], socket: &Path, arguments: &[&str]) -> Self {
        let words = [starter, &[env!("CARGO_BIN_EXE_nigh-flagd")]].concat();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg("start")
            .arg("-d")
            .arg(socket)
            .args(arguments);
        let mut running = Self::start(command.env_remove("NIGH_LOG"));
        running.until("Flag IResolver listening at");
        running
    }

    /// Reads the log up to a line with these words.
    pub(crate) fn until(&mut self, words: &str) -> String {
        let mut lines = std::iter::from_fn(|| self.log.recv_timeout(LOG_MAX).ok());
        let found = lines.find(|line| line.contains(words));
        found.unwrap_or_else(|| panic!("the log ends without {words:?}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an operator would; `timeout` passes the signal on.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.until("stopping");
        self.child.wait().unwrap().code()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.until("replaced by another daemon");
        self.child.wait().unwrap().code()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
