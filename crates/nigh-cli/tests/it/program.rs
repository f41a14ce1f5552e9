//! Runs the program `nigh`, with its output and exit code.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What a run of the program left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) async fn nigh_reading(input: &str, arguments: &[&str]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    ended.await.unwrap().unwrap().into()
}

pub(crate) async fn nigh(arguments: &[&str]) -> Ran {
    nigh_reading("", arguments).await
}

/// `nigh serve`, killed when dropped.
pub(crate) struct Serving {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    /// The addresses it announced, in order.
    pub(crate) addresses: Vec<String>,
}

impl Serving {
    /// Starts a server and returns once it listens on all `addresses`.
    pub(crate) fn start(addresses: &[&str], options: &[&str]) -> Self {
        let words = [&["serve", "--json"], addresses, options].concat();
        Self::run(&words, addresses.len())
    }

    /// Runs what becomes a server that announces as many addresses.
    pub(crate) fn run(words: &[&str], addresses: usize) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut serving = Self {
            child: Some(child),
            stdout,
            addresses: Vec::new(),
        };
        for _ in 0..addresses {
            let mut line = String::new();
            serving.stdout.read_line(&mut line).unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            let address = line["listening"].as_str().unwrap();
            serving.addresses.push(address.to_owned());
        }
        serving
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; output that was read already is not repeated.
    pub(crate) async fn ended(mut self) -> Ran {
        let child = self.child.take().unwrap();
        let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
        ended.await.unwrap().unwrap().into()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
