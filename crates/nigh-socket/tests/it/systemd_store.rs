//! A descriptor store of the test's own, as systemd documents it: a service that is killed finds its sockets again.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nigh_socket::spawn::{Child, Spawn};
use nigh_socket::systemd::{self, Notifier};
use nigh_socket::{Address, Listener, SocketKind, blocking};
use nigh_testkit::{TempSocket, child_variable};

use crate::servers::until;
use crate::systemd_notify::Manager;

/// Holds what a service stores, starts it and kills it.
struct Keeper {
    manager: Manager,
    kept: Vec<(String, OwnedFd)>,
    place: TempSocket,
}

impl Keeper {
    fn new() -> Self {
        Self {
            manager: Manager::at("autobind:"),
            kept: Vec::new(),
            place: TempSocket::private(),
        }
    }

    /// Starts the service with everything that is kept, and returns when it says that it is ready.
    fn start(&mut self) -> (Child, BufReader<std::io::PipeReader>) {
        let (reader, writer) = std::io::pipe().unwrap();
        let names: Vec<&str> = self.kept.iter().map(|kept| kept.0.as_str()).collect();
        let mut script = String::from("exec \"$0\" \"$@\"");
        if !names.is_empty() {
            script = format!("LISTEN_PID=$$ {script}");
        }
        let mut spawn = Spawn::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args(["systemd_store::kept_child", "--exact", "--include-ignored"])
            .arg("--nocapture")
            .env("NOTIFY_SOCKET", self.manager.variable())
            .env("PLACE", self.place.directory())
            .stdout(writer);
        if !names.is_empty() {
            spawn = spawn
                .env("LISTEN_FDS", names.len().to_string())
                .env("LISTEN_FDNAMES", names.join(":"));
        }
        let copies = self.kept.iter().map(|kept| kept.1.try_clone().unwrap());
        let (child, _line) = spawn.descriptors(copies).spawn().unwrap();
        self.serve_until_ready();
        (child, BufReader::new(reader))
    }

    fn serve_until_ready(&mut self) {
        loop {
            let (text, fds, _) = self.manager.next();
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
            if text.contains("FDSTORE=1") {
                let name = name.unwrap();
                assert!(!self.kept.iter().any(|kept| kept.0 == name), "{text}");
                self.kept
                    .extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
            } else if text.contains("FDSTOREREMOVE=1") {
                self.kept.retain(|kept| Some(kept.0.as_str()) != name);
            } else if text.contains("READY=1") {
                return;
            }
        }
    }
}

/// The pid that answers there.
fn answers(path: &Path) -> u32 {
    let mut told = String::new();
    let mut asked = UnixStream::connect(path).unwrap();
    let patience = std::time::Duration::from_secs(30);
    asked.set_read_timeout(Some(patience)).unwrap();
    asked.read_to_string(&mut told).unwrap();
    told.trim().parse().unwrap()
}

fn told(output: &mut BufReader<std::io::PipeReader>, marker: &str) -> String {
    for line in output.lines() {
        if let Some((_, rest)) = line.unwrap().split_once(marker) {
            return rest.to_owned();
        }
    }
    unreachable!("it never said {marker:?}")
}

#[test]
fn a_killed_service_finds_its_sockets_again_and_nobody_is_refused() {
    let mut keeper = Keeper::new();
    let (stream, datagrams) = (
        keeper.place.path().to_owned(),
        keeper.place.directory().join("d"),
    );
    let (mut child, mut output) = keeper.start();
    let names: Vec<String> = keeper.kept.iter().map(|kept| kept.0.clone()).collect();
    let named = format!("unix%3A{}", stream.display());
    assert_eq!(names, [named.as_str(), "log", "packets", "tcp"]);
    let tcp = told(&mut output, "tcp ");

    let (is_over, connects) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let hammer = {
        let (path, is_over, connects) =
            (stream.clone(), Arc::clone(&is_over), Arc::clone(&connects));
        std::thread::spawn(move || {
            let mut refused = 0;
            while !is_over.load(Ordering::Acquire) {
                match UnixStream::connect(&path) {
                    // Its answer may be lost with the service; that it got in is what counts.
                    Ok(_) => drop(connects.fetch_add(1, Ordering::AcqRel)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => refused += 1,
                }
                std::thread::yield_now();
            }
            refused
        })
    };
    for round in 0..5 {
        let enough = connects.load(Ordering::Acquire) + 20;
        until(|| connects.load(Ordering::Acquire) >= enough);
        child.kill().unwrap();
        child.wait().unwrap();
        // Nobody serves, and everybody gets in.
        let enough = connects.load(Ordering::Acquire) + 20;
        until(|| connects.load(Ordering::Acquire) >= enough);
        let letter = UnixDatagram::unbound().unwrap();
        letter
            .send_to(format!("letter {round}").as_bytes(), &datagrams)
            .unwrap();
        (child, output) = keeper.start();
        assert_eq!(told(&mut output, "tcp "), tcp);
        assert_eq!(told(&mut output, "letter "), round.to_string());
        assert_eq!(answers(&stream), child.pid());
    }
    is_over.store(true, Ordering::Release);
    assert_eq!(hammer.join().unwrap(), 0);
    let now: Vec<&String> = keeper.kept.iter().map(|kept| &kept.0).collect();
    assert_eq!(
        now,
        names.iter().collect::<Vec<_>>(),
        "nothing was stored twice"
    );

    // What is kept leads nowhere any more: it is bound anew, and the store is told.
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&stream).unwrap();
    // Its output has to stay open.
    let _open;
    (child, _open) = keeper.start();
    assert_eq!(answers(&stream), child.pid());
    assert_eq!(keeper.kept.len(), 4);
    // Something else stands there.
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&stream).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&stream).unwrap());
    let _open;
    (child, _open) = keeper.start();
    assert_eq!(answers(&stream), child.pid());
    child.kill().unwrap();
}

#[test]
#[ignore = "runs as a child of a_killed_service_finds_its_sockets_again_and_nobody_is_refused"]
fn kept_child() {
    let notifier = Notifier::from_environment().unwrap().unwrap();
    let place = std::path::PathBuf::from(child_variable("PLACE"));
    let at = |name: &str| Address::Path(place.join(name));
    let kind = |kind| Listener::options().kind(kind);
    let listen = |options, address| notifier.listen(&options, &address).unwrap();
    let stream = listen(Listener::options(), at("s"));
    let log = listen(kind(SocketKind::Datagram).name("log"), at("d"));
    let packets = listen(
        kind(SocketKind::Seqpacket).name("packets"),
        "autobind:".parse().unwrap(),
    );
    let tcp = listen(
        Listener::options().name("tcp"),
        "tcp:127.0.0.1:0".parse().unwrap(),
    );
    assert!(
        systemd::descriptors()
            .unwrap()
            .iter()
            .all(|one| one.is_taken)
    );
    assert!(packets.address().to_string().starts_with("unix-abstract:"));
    notifier.send(&systemd::State::new().ready()).unwrap();
    println!("\ntcp {}", tcp.address());
    let log = blocking::UnixDatagram::bound(log).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(letter) = log.recv(&mut buffer) {
            println!("\n{}", String::from_utf8_lossy(&buffer[..letter.length]));
        }
    });
    rustix::io::ioctl_fionbio(&stream, false).unwrap();
    while let Ok(caller) = stream.accept() {
        rustix::io::ioctl_fionbio(&caller, false).unwrap();
        // Who has left already does not want to know.
        let _ = write!(UnixStream::from(caller), "{}", std::process::id());
    }
}
