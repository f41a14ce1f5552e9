//! The daemon in a process of its own: this program, started again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nigh_flagd::cli::{self, StartArgs};
use tempfile::TempDir;

use crate::Failure;

/// A daemon that lives as long as the value.
pub(super) struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Starts one on this document of flags; it may not listen yet.
    pub(super) fn start(document: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("flags.json"), document)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("flagd-serve")
            .arg(folder.path().join("s"))
            .arg(folder.path().join("flags.json"))
            .env("NIGH_LOG", "error")
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child, folder })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Puts another document in place, whole, by the rename that `then` is told the time of.
    pub(super) fn replace(&self, document: &str) -> Result<std::time::Instant, Failure> {
        let new = self.folder.path().join("new");
        std::fs::write(&new, document)?;
        let now = std::time::Instant::now();
        std::fs::rename(new, self.folder.path().join("flags.json"))?;
        Ok(now)
    }

    /// Memory that it has in use, in KiB.
    pub(super) fn memory_kib(&self) -> Result<u32, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or("no VmRSS")?.parse()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the child does: the daemon's own start, as its program runs it.
pub(crate) fn serve(socket: &str, file: &str) -> Result<(), Failure> {
    let args = StartArgs {
        uri: vec![format!("file:{file}")],
        socket_path: Some(socket.into()),
        ..StartArgs::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let command = cli::Command::Start(Box::new(args));
    Ok(runtime.block_on(cli::run(command, false))?)
}
