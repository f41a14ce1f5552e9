//! Runs the program `nigh`, with its output and exit code.

use std::io::Write as _;
use std::process::{Output, Stdio};

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
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_nigh"))
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
