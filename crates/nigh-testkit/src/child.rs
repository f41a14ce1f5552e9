//! Runs one test function of the current test binary in a process of its own, as another user if asked.
//!
//! The function is marked `#[ignore = "runs as a child of .."]`. Trap: libtest calls it a success when no test has the
//! name that was asked for, so [`Outcome::assert_success`] demands that exactly one ran.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

/// Kills a child that hangs, after a minute. In the foreground it stays in our process group, so that ^C ends it too.
const TIMEOUT: [&str; 4] = ["timeout", "--foreground", "--kill-after=1", "60"];

/// A test function to run in a child process. Needs util-linux `setpriv` for another user.
#[derive(Debug)]
pub struct Child {
    test: String,
    user: Option<User>,
    apart: bool,
    variables: Vec<(OsString, OsString)>,
}

#[derive(Debug)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// What a child printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    test: String,
    /// Exit status and both streams, as the child left them.
    pub output: Output,
}

/// The value that the parent set for this child, as text.
///
/// # Panics
/// When it is not set: the function was not started by its parent.
#[must_use]
pub fn child_variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: started by hand?"))
}

impl Child {
    /// The test with this full name, as libtest prints it: `module::function`.
    #[must_use]
    pub fn test(name: impl Into<String>) -> Self {
        Self {
            test: name.into(),
            user: None,
            apart: false,
            variables: Vec::new(),
        }
    }

    /// Run it with these real, effective and saved ids and exactly these supplementary groups. Needs root.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.user = Some(User {
            uid,
            gid,
            groups: groups.to_vec(),
        });
        self
    }

    /// Run it in a user and a process namespace of its own, where it is root and its pid is small: a container of a
    /// pod. Needs util-linux `unshare`, and leave to make user namespaces.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Set an environment variable for it; [`child_variable`] reads it.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Runs it to its end, blocking this thread; a child that takes longer than a minute is killed and fails.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(self) -> Outcome {
        let program = Program::published();
        let output = self.command(&TIMEOUT, &program.path).output();
        Outcome {
            output: output.expect("timeout(1) and setpriv(1) start"),
            test: self.test,
        }
    }

    /// Like [`Child::run`], without blocking the runtime: for a child that talks to a server of this test.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn run_async(self) -> Outcome {
        let program = Program::published();
        let command = self.command(&TIMEOUT, &program.path);
        let output = tokio::process::Command::from(command).output().await;
        Outcome {
            output: output.expect("timeout(1) and setpriv(1) start"),
            test: self.test,
        }
    }

    /// Starts it with piped standard streams, for a test that talks to it or kills it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(self) -> Running {
        let program = Program::published();
        let mut command = self.command(&[], &program.path);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv(1) starts");
        let stdout = child.stdout.take().expect("a piped stream");
        Running {
            child,
            stdout: BufReader::new(stdout),
            _program: program,
        }
    }

    fn command(&self, wrapper: &[&str], program: &Path) -> Command {
        let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
        if let Some(user) = &self.user {
            let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
            words.push("setpriv".into());
            words.push(format!("--reuid={}", user.uid).into());
            words.push(format!("--regid={}", user.gid).into());
            words.push(match groups.as_slice() {
                [] => "--clear-groups".into(),
                groups => format!("--groups={}", groups.join(",")).into(),
            });
        }
        if self.apart {
            let options = [
                "--user",
                "--map-root-user",
                "--pid",
                "--fork",
                "--kill-child",
            ];
            words.push("unshare".into());
            words.extend(options.map(OsString::from));
        }
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args([&self.test, "--exact", "--include-ignored", "--nocapture"])
            .arg("--test-threads=1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }
}

impl Outcome {
    /// Standard output and standard error as text, one after the other.
    #[must_use]
    pub fn text(&self) -> String {
        let out = String::from_utf8_lossy(&self.output.stdout);
        let err = String::from_utf8_lossy(&self.output.stderr);
        format!("{out}{err}")
    }

    /// Checks that exactly the one test ran and passed.
    ///
    /// # Panics
    /// When it failed, was killed, or does not exist; shows what it printed.
    pub fn assert_success(&self) {
        let ran =
            String::from_utf8_lossy(&self.output.stdout).contains("1 passed; 0 failed; 0 ignored");
        assert!(
            ran && self.output.status.success(),
            "child {} ended with {}, {}:\n{}",
            self.test,
            self.output.status,
            if ran {
                "one test passed"
            } else {
                "no test passed"
            },
            self.text()
        );
    }
}

/// A child that was started; it is killed when dropped.
#[derive(Debug)]
pub struct Running {
    /// The process that runs the test: setpriv(1) becomes it, so the pid is its own.
    pub child: std::process::Child,
    stdout: BufReader<ChildStdout>,
    _program: Program,
}

impl Running {
    /// Reads what the child prints until a line has `marker`, and returns what follows it on that line. Blocks.
    ///
    /// # Panics
    /// When the child's output ends without it.
    #[must_use]
    pub fn wait_for(&mut self, marker: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let length = self
                .stdout
                .read_line(&mut line)
                .expect("the child's output");
            assert!(
                length > 0,
                "the child never printed {marker:?}, only:\n{seen}"
            );
            // libtest prints `test name ... ` before the first line of the test itself.
            if let Some((_, rest)) = line.split_once(marker) {
                return rest.trim().to_owned();
            }
            seen.push_str(&line);
        }
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The test binary where every user can read it: the checkout may be closed to others.
#[derive(Debug)]
struct Program {
    _directory: TempDir,
    path: PathBuf,
}

impl Program {
    fn published() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("nigh-child-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .expect("a directory in /tmp");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))
            .expect("the mode of our own directory");
        let path = directory.path().join("test");
        let current = std::env::current_exe().expect("the running test binary");
        let mode = fs::metadata(&current)
            .expect("the running test binary")
            .permissions()
            .mode();
        // A link costs nothing; across file systems, or when others may not run the file, it has to be a copy. Another
        // process makes it: a descriptor of ours that writes it could be inherited by a child that is just being
        // started by another test, and the kernel runs nothing that is open for writing.
        if mode & 0o005 != 0o005 || fs::hard_link(&current, &path).is_err() {
            let copied = Command::new("install")
                .arg("--mode=0755")
                .args([&current, &path])
                .status();
            assert!(
                copied.expect("install(1) starts").success(),
                "a copy of the test binary"
            );
        }
        Self {
            _directory: directory,
            path,
        }
    }
}
