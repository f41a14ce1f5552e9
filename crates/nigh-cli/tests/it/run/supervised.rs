//! A supervisor of a test, and what can be seen of it from outside.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nigh_testkit::TempSocket;
use rustix::process::Signal;
use serde_json::Value;

/// Names must differ, for they are the machine's.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// `nigh run`, killed when dropped.
pub(crate) struct Supervised {
    child: Child,
    pub(crate) name: String,
}

impl Supervised {
    /// Holds the path of `place` as `web`.
    pub(crate) fn start(place: &TempSocket, options: &[&str], command: &[&str]) -> Self {
        let web = format!("web={}", place.address());
        Self::bare(&[&["--listen", &web], options].concat(), command)
    }

    /// Holds what `options` say.
    pub(crate) fn bare(options: &[&str], command: &[&str]) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test.{}.{number}", std::process::id());
        let child = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args(["run", "--name", &name])
            .args(options)
            .arg("--")
            .args(command)
            .env("NIGH_LOG", "info")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { child, name };
        this.until(|_| true);
        this
    }

    /// With the service that knows nothing of nigh.
    pub(crate) fn python(place: &TempSocket, options: &[&str], words: &[&str]) -> Self {
        let service = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/run/service.py");
        Self::start(place, options, &[&["python3", service], words].concat())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        super::signal(self.pid(), signal);
    }

    fn ask(&self) -> Option<Value> {
        let asked = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args(["run", "--json", "--status", &self.name])
            .output()
            .unwrap();
        serde_json::from_slice(&asked.stdout).ok()
    }

    pub(crate) fn status(&self) -> Value {
        self.ask().unwrap()
    }

    /// Waits until its status is so.
    pub(crate) fn until(&self, mut is_so: impl FnMut(&Value) -> bool) {
        let until = Instant::now() + super::PATIENCE;
        loop {
            let status = self.ask();
            if status.as_ref().is_some_and(&mut is_so) {
                return;
            }
            assert!(Instant::now() < until, "it never came to be: {status:?}");
        }
    }

    /// Tells it to end, and waits.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the process is there, and no mere name.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}
