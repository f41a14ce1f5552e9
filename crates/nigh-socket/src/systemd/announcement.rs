//! What the environment announces (sd_listen_fds(3)): how many descriptors, for whom, under which names. By value.
//!
//! Trap: a child of the service sees the same variables and must not believe them, so the pid in them decides. A pid is
//! used again, so where the manager says which process it means (systemd 258: the inode of its pidfd), that decides too.

use std::ffi::OsString;
use std::io;

use super::ActivationError;
use crate::handover::is_name;

/// The most descriptors that are believed in. A service manager's own limit is below it.
const DESCRIPTORS_MAX: usize = 4096;

/// What a descriptor is called that the manager gave no name.
const NAMELESS: &str = "unknown";

/// The variables as they are.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub(super) pid: Option<OsString>,
    pub(super) process: Option<OsString>,
    pub(super) count: Option<OsString>,
    pub(super) names: Option<OsString>,
}

/// What they announce.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// Nobody passed anything.
    Nothing,
    /// Something was passed to this process's parent, or to whoever had its pid.
    ToAnother,
    /// One name for each, from descriptor 3 on.
    Named(Vec<String>),
}

/// Reads what was announced to the process `us`, whose pidfd has the inode that `inode` tells, where the kernel can tell.
pub(super) fn read(
    variables: Variables,
    us: u32,
    inode: impl FnOnce() -> io::Result<Option<u64>>,
) -> Result<Announced, ActivationError> {
    let (pid, count) = match (variables.pid, variables.count) {
        (None, None) => return Ok(Announced::Nothing),
        (Some(_), None) => return Err(ActivationError::Incomplete("LISTEN_FDS")),
        (None, Some(_)) => return Err(ActivationError::Incomplete("LISTEN_PID")),
        (Some(pid), Some(count)) => (pid, count),
    };
    if number::<u32>("LISTEN_PID", &pid)? != us {
        return Ok(Announced::ToAnother);
    }
    if let Some(process) = variables.process {
        let meant: u64 = number("LISTEN_PIDFDID", &process)?;
        let found = inode().map_err(ActivationError::Ourselves)?;
        if found.is_some_and(|found| found != meant) {
            return Ok(Announced::ToAnother);
        }
    }
    let count = match number::<usize>("LISTEN_FDS", &count)? {
        0 => return Err(malformed("LISTEN_FDS", count)),
        many if many > DESCRIPTORS_MAX => return Err(ActivationError::TooMany(many)),
        count => count,
    };
    let Some(names) = variables.names else {
        return Ok(Announced::Named(vec![NAMELESS.to_owned(); count]));
    };
    let names = names
        .into_string()
        .map_err(|names| malformed("LISTEN_FDNAMES", names))?;
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        return Err(ActivationError::Names {
            names: names.len(),
            descriptors: count,
        });
    }
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(malformed("LISTEN_FDNAMES", name.into())),
        None => Ok(Announced::Named(names)),
    }
}

/// Decimal digits and nothing else.
pub(super) fn number<T: std::str::FromStr>(
    variable: &'static str,
    value: &OsString,
) -> Result<T, ActivationError> {
    let text = value
        .to_str()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed(variable, value.clone()))
}

fn malformed(variable: &'static str, value: OsString) -> ActivationError {
    ActivationError::Malformed { variable, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pid: &str, process: &str, count: &str, names: Option<&str>) -> Variables {
        let some = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
        Variables {
            pid: some(pid),
            process: some(process),
            count: some(count),
            names: names.map(OsString::from),
        }
    }

    fn found(variables: Variables) -> Result<Announced, String> {
        read(variables, 7, || Ok(Some(99))).map_err(|error| error.to_string())
    }

    fn named(names: &[&str]) -> Result<Announced, String> {
        Ok(Announced::Named(
            names.iter().map(|&name| name.into()).collect(),
        ))
    }

    #[test]
    fn what_is_announced_to_us_is_believed() {
        assert_eq!(found(Variables::default()), Ok(Announced::Nothing));
        assert_eq!(
            found(variables("7", "", "2", None)),
            named(&["unknown", "unknown"])
        );
        assert_eq!(
            found(variables("7", "99", "2", Some("a:b.socket"))),
            named(&["a", "b.socket"])
        );
        // systemd allows a name of nothing.
        assert_eq!(found(variables("7", "", "1", Some(""))), named(&[""]));
        // Its own pidfds have no inodes: then the pid decides.
        let old = read(variables("7", "1", "1", None), 7, || Ok(None));
        assert_eq!(old.ok(), named(&["unknown"]).ok());
    }

    #[test]
    fn what_is_announced_to_others_is_left_alone() {
        for (pid, process) in [("8", ""), ("7", "98")] {
            let theirs = variables(pid, process, "nonsense", None);
            match pid {
                "8" => assert_eq!(found(theirs), Ok(Announced::ToAnother)),
                _ => assert_eq!(
                    found(variables(pid, process, "1", None)),
                    Ok(Announced::ToAnother)
                ),
            }
        }
    }

    #[test]
    fn what_does_not_agree_is_refused() {
        for (variables, part) in [
            (variables("7", "", "", None), "LISTEN_FDS is not set"),
            (variables("", "", "1", None), "LISTEN_PID is not set"),
            (variables("+7", "", "1", None), "LISTEN_PID"),
            (variables("7", "x", "1", None), "LISTEN_PIDFDID"),
            (variables("7", "", "0", None), "LISTEN_FDS"),
            (variables("7", "", "-1", None), "LISTEN_FDS"),
            (variables("7", "", " 1", None), "LISTEN_FDS"),
            (variables("7", "", "4097", None), "4097"),
            (
                variables("7", "", "99999999999999999999", None),
                "LISTEN_FDS",
            ),
            (variables("7", "", "2", Some("a")), "1 name for 2"),
            (variables("7", "", "1", Some("a:b")), "2 names for 1"),
            (variables("7", "", "1", Some("a\nb")), "LISTEN_FDNAMES"),
        ] {
            let error = found(variables).unwrap_err();
            assert!(error.contains(part), "{error}: {part}");
        }
    }
}
