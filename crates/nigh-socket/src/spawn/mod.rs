//! Children with a private line: a pair of sockets, one end under a known number in the child, and nothing else inherited.
//!
//! Traps: code of ours between fork and exec costs tens of milliseconds in a large process, so there is none. A sibling that
//! inherits the child's end delays the end of the line, so nothing is inherited and our copy is closed at once. And on a
//! pair of datagram sockets a death is never noticed, so there are none.

mod child;
mod error;
mod line;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{PidfdFlags, Signal, pidfd_open};

pub use child::Child;
pub use error::{ParentError, SpawnError, SpawnFault};
pub use line::{Line, from_parent};

use crate::listener::SocketKind;
use crate::sys::opt;
use crate::sys::spawn::{Closing, Plan, start};

/// The environment variable that tells a child of its line: `number:cookie`.
pub const VARIABLE: &str = "NIGH_PARENT";

/// What the line can have: those between the standard streams and it are closed one by one.
const NUMBERS: RangeInclusive<RawFd> = 3..=255;

/// A child to start, with a private line.
///
/// The defaults: packets, under number 3; this process's environment, directory and standard streams. No other descriptor
/// is inherited, no signal is blocked, and broken pipes are not ignored. What a service manager said to this process
/// ([`systemd::VARIABLES`](crate::systemd::VARIABLES)) is left out of the environment.
///
/// It is started by `posix_spawn`, without a copy of this process. What was not given is closed by the C library, in the
/// child, where that can (glibc from 2.34 on). Elsewhere, as with musl, what is open when the child is started is closed one
/// by one: what another thread opens just then *without* close-on-exec is inherited. Nothing in this crate or in `std` does.
#[derive(Debug)]
#[must_use]
pub struct Spawn {
    program: OsString,
    arguments: Vec<OsString>,
    /// What differs from our own environment; `None` is removed.
    variables: BTreeMap<OsString, Option<OsString>>,
    is_environment_cleared: bool,
    directory: Option<OsString>,
    streams: [Option<OwnedFd>; 3],
    kind: SocketKind,
    number: Option<RawFd>,
    descriptors: Vec<OwnedFd>,
    pass_credentials: bool,
}

impl Spawn {
    /// A path, or a name that is looked for in this process's `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            variables: BTreeMap::new(),
            is_environment_cleared: false,
            directory: None,
            streams: [const { None }; 3],
            kind: SocketKind::Seqpacket,
            number: None,
            descriptors: Vec::new(),
            pass_credentials: false,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), Some(value.into()));
        self
    }

    /// Leaves a variable out of its environment.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), None);
        self
    }

    /// Has it inherit no variables: only those set here, before or after, and the one that announces the line.
    pub fn env_clear(mut self) -> Self {
        self.is_environment_cleared = true;
        self
    }

    /// Where it starts. A relative program is looked for from there.
    pub fn current_dir(mut self, directory: impl Into<OsString>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Its standard input.
    pub fn stdin(mut self, file: impl Into<OwnedFd>) -> Self {
        self.streams[0] = Some(file.into());
        self
    }

    /// Its standard output.
    pub fn stdout(mut self, file: impl Into<OwnedFd>) -> Self {
        self.streams[1] = Some(file.into());
        self
    }

    /// Its standard error.
    pub fn stderr(mut self, file: impl Into<OwnedFd>) -> Self {
        self.streams[2] = Some(file.into());
        self
    }

    /// Packets (the default) or a stream.
    pub fn kind(mut self, kind: SocketKind) -> Self {
        self.kind = kind;
        self
    }

    /// The number of the line in the child, 3 to 255. Default: the first behind the [`descriptors`](Self::descriptors).
    pub fn number(mut self, number: RawFd) -> Self {
        self.number = Some(number);
        self
    }

    /// Has it inherit these, too: under 3, 4 and so on, in this order, as `LISTEN_FDS` announces them.
    pub fn descriptors(mut self, files: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.descriptors.extend(files);
        self
    }

    /// Has each message that the parent receives say who wrote it, from the first on. Default false.
    pub fn pass_credentials(mut self, pass: bool) -> Self {
        self.pass_credentials = pass;
        self
    }

    /// Starts the child; returns when it runs the program, or cannot.
    ///
    /// # Errors
    /// [`SpawnError`]: no child is left then.
    pub fn spawn(self) -> Result<(Child, Line), SpawnError> {
        let program = self.program.clone();
        self.started(Closing::best())
            .map_err(|fault| SpawnError { program, fault })
    }

    fn started(self, closing: Closing) -> Result<(Child, Line), SpawnFault> {
        if self.kind == SocketKind::Datagram {
            return Err(SpawnFault::Kind(self.kind));
        }
        let number = self.line_number()?;
        let (line, theirs) = Line::pair(self.kind).map_err(SpawnFault::Descriptors)?;
        if self.pass_credentials {
            opt::pass_credentials(line.as_fd(), true)
                .map_err(|error| SpawnFault::Descriptors(error.into()))?;
        }
        let plan = self.plan(&theirs, number)?;
        let pid = start(&plan, closing).map_err(SpawnFault::Execute)?;
        // Nobody else waits for it, so that the pid is still its own.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok((Child::new(pidfd, pid), line)),
            Err(error) => {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                Err(SpawnFault::Watch(error.into()))
            }
        }
    }

    /// Behind the descriptors.
    fn line_number(&self) -> Result<RawFd, SpawnFault> {
        let first = RawFd::try_from(self.descriptors.len())
            .ok()
            .and_then(|count| count.checked_add(*NUMBERS.start()))
            .unwrap_or(RawFd::MAX);
        let number = self.number.unwrap_or(first);
        match NUMBERS.contains(&number) && number >= first {
            true => Ok(number),
            false => Err(SpawnFault::Number(number)),
        }
    }

    fn plan(&self, theirs: &OwnedFd, number: RawFd) -> Result<Plan, SpawnFault> {
        let announced = line::announcement(number, theirs).map_err(SpawnFault::Descriptors)?;
        let arguments = [&self.program].into_iter().chain(&self.arguments);
        let mut files = Vec::new();
        let streams = self.streams.iter().map(Option::as_ref);
        let given = streams.chain(self.descriptors.iter().map(Some));
        for (place, file) in (0..).zip(given) {
            if let Some(file) = file {
                files.push((out_of_the_way(file.as_fd(), number)?, place));
            }
        }
        let last = 2 + RawFd::try_from(self.descriptors.len()).unwrap_or(RawFd::MAX - 2);
        files.push((out_of_the_way(theirs.as_fd(), number)?, number));
        Ok(Plan {
            program: c_string(&self.program)?,
            arguments: arguments
                .map(|argument| c_string(argument))
                .collect::<Result<_, _>>()?,
            environment: self.environment(&announced)?,
            directory: self.directory.as_deref().map(c_string).transpose()?,
            files,
            closed: last + 1..number,
            first_closed: number + 1,
        })
    }

    fn environment(&self, announced: &str) -> Result<Vec<CString>, SpawnFault> {
        let mut variables = BTreeMap::new();
        if !self.is_environment_cleared {
            variables.extend(std::env::vars_os().map(|(name, value)| (name, Some(value))));
            // Said to this process, and not true of a child.
            for ours in crate::systemd::VARIABLES {
                variables.remove(OsStr::new(ours));
            }
        }
        variables.extend(self.variables.clone());
        variables.insert(VARIABLE.into(), Some(announced.into()));
        let set = variables.into_iter().filter_map(|(name, value)| {
            let mut variable = name;
            variable.push("=");
            variable.push(value?);
            Some(variable)
        });
        set.map(|variable| c_string(&variable)).collect()
    }
}

/// A copy whose number is none that the child is to have.
fn out_of_the_way(file: BorrowedFd<'_>, last: RawFd) -> Result<OwnedFd, SpawnFault> {
    fcntl_dupfd_cloexec(file, last + 1).map_err(|error| SpawnFault::Descriptors(error.into()))
}

fn c_string(text: &OsStr) -> Result<CString, SpawnFault> {
    CString::new(text.as_bytes()).map_err(|_| SpawnFault::Nul)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done where the C library cannot close the rest itself.
    #[test]
    fn one_by_one_nothing_is_inherited_either() {
        let stray = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
        for closing in [Closing::best(), Closing::ByList] {
            let (reader, writer) = std::io::pipe().unwrap();
            let script = "for n in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && echo $n; done; true";
            let shell = Spawn::new("sh")
                .args(["-c", script])
                .stdout(writer)
                .number(5);
            let (child, _line) = shell.started(closing).unwrap();
            assert_eq!(std::io::read_to_string(reader).unwrap(), "5\n");
            assert!(child.wait().unwrap().success());
        }
    }
}
