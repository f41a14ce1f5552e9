//! What a service manager is told, by a manager of the test's own that reads as systemd documents it.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nigh_socket::blocking::UnixDatagram;
use nigh_socket::systemd::{Notifier, NotifyError, State};
use nigh_socket::{
    Address, Connection, Front, Limits, Listener, Policy, Protocol, Refused, Serving, SocketKind,
};
use nigh_testkit::{Child, TempSocket, child_variable};
use tokio::sync::oneshot;

/// Long enough for everything that is to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The other end of `NOTIFY_SOCKET`.
pub(crate) struct Manager {
    socket: UnixDatagram,
    address: Address,
}

impl Manager {
    pub(crate) fn at(address: impl Into<String>) -> Self {
        let options = Listener::options().kind(SocketKind::Datagram);
        let listener = options.pass_credentials(true).bind(address.into()).unwrap();
        let address = listener.address().clone();
        let mut socket = UnixDatagram::bound(listener).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, address }
    }

    /// As the variable names it.
    pub(crate) fn variable(&self) -> String {
        match &self.address {
            Address::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
            Address::Path(path) => path.display().to_string(),
            other => other.to_string(),
        }
    }

    pub(crate) fn next(&self) -> (String, Vec<OwnedFd>, Option<u32>) {
        let mut buffer = [0; 4096];
        let got = self.socket.recv(&mut buffer).unwrap();
        let pid = got
            .sender
            .as_ref()
            .and_then(|sender| sender.pid().value().copied());
        let text = String::from_utf8(buffer[..got.length].to_vec()).unwrap();
        (text, got.fds, pid)
    }

    fn text(&self) -> String {
        self.next().0
    }
}

#[test]
fn a_manager_is_told_in_its_own_words() {
    let place = TempSocket::private();
    for address in [place.address(), "autobind:".to_owned()] {
        let manager = Manager::at(address);
        let notifier = Notifier::at(manager.address.clone());
        let state = State::new().ready().status("fine\nREADY=0").main_pid(7);
        notifier.send(&state).unwrap();
        let (text, fds, pid) = manager.next();
        assert_eq!(text, "READY=1\nSTATUS=fine READY=0\nMAINPID=7\n");
        assert!(fds.is_empty());
        assert_eq!(pid, Some(std::process::id()));
        notifier.try_send(&State::new().stopping()).unwrap();
        assert_eq!(manager.text(), "STOPPING=1\n");
        notifier.reloading().unwrap();
        let text = manager.text();
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.trim_end().parse::<u64>().unwrap() > 0);
        let time = Duration::from_secs(2);
        notifier.send(&State::new().extend_timeout(time)).unwrap();
        assert_eq!(manager.text(), "EXTEND_TIMEOUT_USEC=2000000\n");
    }
}

#[test]
fn a_manager_keeps_descriptors_under_their_names() {
    let manager = Manager::at("autobind:");
    let notifier = Notifier::at(manager.address.clone());
    let listener = Listener::options().name("web").bind("autobind:").unwrap();
    notifier.store_listener(&listener).unwrap();
    let (text, fds, _) = manager.next();
    assert_eq!(text, "FDSTORE=1\nFDNAME=web\n");
    let again = Listener::options().inherit(fds.into_iter().next().unwrap());
    assert_eq!(again.unwrap().address(), listener.address());
    let file = std::fs::File::open("/dev/null").unwrap();
    notifier
        .store("a b", &[file.as_fd(), file.as_fd()], false)
        .unwrap();
    let (text, fds, _) = manager.next();
    assert_eq!(
        (text.as_str(), fds.len()),
        ("FDSTORE=1\nFDNAME=a b\nFDPOLL=0\n", 2)
    );
    notifier.forget("web").unwrap();
    assert_eq!(manager.text(), "FDSTOREREMOVE=1\nFDNAME=web\n");
    for name in ["", "a:b", "a\nFDSTORE=1", &"x".repeat(256)] {
        let refused = notifier.store(name, &[file.as_fd()], true);
        assert!(matches!(refused, Err(NotifyError::Name(_))), "{name:?}");
    }
}

#[test]
fn a_barrier_waits_until_the_manager_has_looked() {
    let manager = Manager::at("autobind:");
    let notifier = Notifier::at(manager.address.clone());
    let waiting = {
        let notifier = notifier.clone();
        std::thread::spawn(move || notifier.barrier(PATIENCE))
    };
    let (text, fds, _) = manager.next();
    assert_eq!((text.as_str(), fds.len()), ("BARRIER=1\n", 1));
    drop(fds);
    waiting.join().unwrap().unwrap();
    // A manager that keeps it open.
    let late = notifier.barrier(Duration::from_millis(1));
    assert!(matches!(late, Err(NotifyError::Barrier(_))), "{late:?}");
    drop(manager);
    let gone = notifier.barrier(PATIENCE);
    assert!(matches!(gone, Err(NotifyError::Send(_))), "{gone:?}");
}

#[test]
fn the_environment_names_the_manager_or_is_refused() {
    for (socket, found) in [
        ("/run/systemd/notify", "unix:/run/systemd/notify"),
        ("@/org/notify", "unix-abstract:/org/notify"),
        ("vsock:2:1234", "vsock is not supported"),
        ("vsock-stream:2:1234", "vsock is not supported"),
        ("run/notify", "neither a path nor an abstract name"),
        ("@", "neither a path nor an abstract name"),
        ("", "neither a path nor an abstract name"),
    ] {
        let child = Child::test("systemd_notify::environment_child");
        let child = child.env("NOTIFY_SOCKET", socket).env("FOUND", found);
        child.run().assert_success();
    }
}

#[test]
#[ignore = "runs as a child of the_environment_names_the_manager_or_is_refused"]
fn environment_child() {
    let found = match Notifier::from_environment() {
        Ok(notifier) => format!("{:?}", notifier.unwrap()),
        Err(error) => error.to_string(),
    };
    let wanted = child_variable("FOUND");
    let wanted = match wanted.parse::<Address>() {
        Ok(address) => format!("{address:?}"),
        Err(_) => wanted,
    };
    assert!(found.contains(&wanted), "{found}");
}

/// Keeps whoever comes until it leaves.
#[derive(Debug)]
struct Quiet;

impl Protocol for Quiet {
    fn serve(&self, _: Connection) -> Serving {
        Box::pin(std::future::ready(()))
    }

    fn refuse(&self, _: Refused) -> Serving {
        Box::pin(std::future::ready(()))
    }
}

#[test]
fn a_server_says_that_it_accepts_that_it_lives_and_that_it_stops() {
    let place = TempSocket::private();
    let manager = Manager::at("autobind:");
    let mut child = Child::test("systemd_notify::watched_child")
        .env("NOTIFY_SOCKET", manager.variable())
        .env("WATCHDOG_USEC", "20000")
        .env("PLACE", place.address())
        .spawn();
    assert_eq!(
        manager.text(),
        format!("READY=1\nSTATUS=accepting on {}\n", place.address())
    );
    for _ in 0..3 {
        assert_eq!(manager.text(), "WATCHDOG=1\n");
    }
    // Every worker of its runtime is held up now: it must not say that it lives.
    let mut stdin = child.child.stdin.take().unwrap();
    stdin.write_all(b"hold\n").unwrap();
    let _ = child.wait_for("HELD");
    let mut silent = manager;
    let quiet = Some(Duration::from_millis(300));
    silent.socket.set_read_timeout(quiet).unwrap();
    let mut buffer = [0; 64];
    // What was sent before it was held up is read first: one at most is on its way.
    let mut said = 0;
    while silent.socket.recv(&mut buffer).is_ok() {
        said += 1;
        assert!(said < 20, "it goes on saying that it lives");
    }
    silent.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    stdin.write_all(b"go on\n").unwrap();
    assert_eq!(silent.text(), "WATCHDOG=1\n");
    stdin.write_all(b"stop\n").unwrap();
    while silent.text() != "STOPPING=1\nSTATUS=draining\n" {}
    assert!(child.child.wait().unwrap().success());
}

#[test]
#[ignore = "runs as a child of a_server_says_that_it_accepts_that_it_lives_and_that_it_stops"]
fn watched_child() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut front = Front::new(Limits::default(), Arc::default());
        let listener = Listener::options().bind(child_variable("PLACE")).unwrap();
        front.listen(listener, Policy::same_user(), Arc::new(Quiet));
        front.notify(Notifier::from_environment().unwrap().unwrap());
        let (stop, stopped) = oneshot::channel();
        // A task that blocks its worker, of which there is one.
        tokio::spawn(async move {
            assert_eq!(read_line().await, "hold\n");
            println!("\nHELD");
            // On purpose without `spawn_blocking`.
            std::io::stdin().read_line(&mut String::new()).unwrap();
            assert_eq!(read_line().await, "stop\n");
            stop.send(()).unwrap();
        });
        let drained = front.run(async { stopped.await.unwrap() }).await.unwrap();
        assert_eq!(drained.cut_off, 0);
    });
}

/// A line, without holding up the runtime.
async fn read_line() -> String {
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        line
    });
    reading.await.unwrap()
}
