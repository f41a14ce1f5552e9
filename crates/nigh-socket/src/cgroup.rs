//! Reads `/proc/PID/cgroup` and finds the systemd unit in a control group's path. Pure.
//!
//! Trap: slices nest (`a.slice/a-b.slice`), a user's manager runs units below its own unit, and a unit may have been
//! given a subtree of its own (`docker.service/…`): the unit is the first part behind the slices.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Unit {
    /// The system manager's unit: `app.service`, `session-3.scope`, `user@1000.service`.
    pub system: String,
    /// Below `user@UID.service`, the unit of that user's own manager.
    pub user: Option<String>,
}

impl Unit {
    /// The unit that a control group belongs to, if it is below one.
    #[must_use]
    pub fn of_cgroup(path: &Path) -> Option<Self> {
        let bytes = path.as_os_str().as_bytes();
        let mut parts = bytes
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty());
        let system = next_unit(&mut parts)?;
        let user = match system.starts_with("user@") && system.ends_with(".service") {
            true => next_unit(&mut parts),
            false => None,
        };
        Some(Self { system, user })
    }
}

/// `user@1000.service/app.service`, or the system unit alone.
impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.system)?;
        match &self.user {
            None => Ok(()),
            Some(user) => write!(f, "/{user}"),
        }
    }
}

/// The path in the text of `/proc/PID/cgroup`: of the unified hierarchy, or of systemd's where that is unused.
pub(crate) fn path(text: &[u8]) -> Option<&[u8]> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let unified = lines.clone().find_map(|line| line.strip_prefix(b"0::"));
    let systemd = lines.find_map(|line| {
        let behind_id = line.splitn(2, |byte| *byte == b':').nth(1)?;
        behind_id.strip_prefix(b"name=systemd:")
    });
    match (unified, systemd) {
        (Some(b"/") | None, Some(path)) => Some(path),
        (unified, _) => unified,
    }
}

/// Skips slices; the part behind them is the unit, or there is none.
fn next_unit<'a>(parts: &mut impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let part = parts.find(|part| !part.ends_with(b".slice"))?;
    // systemd puts "_" before names that the kernel has a meaning for.
    let name = part.strip_prefix(b"_").unwrap_or(part);
    is_unit_name(name).then(|| String::from_utf8_lossy(name).into_owned())
}

/// systemd's own rule: a known type, something before it, and only these characters.
fn is_unit_name(name: &[u8]) -> bool {
    let types: [&[u8]; 5] = [b".service", b".scope", b".socket", b".mount", b".swap"];
    let fits = |suffix: &&[u8]| name.ends_with(suffix) && name.len() > suffix.len();
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(byte);
    types.iter().any(fits) && name.iter().all(valid)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Unit, path};

    #[test]
    fn the_unit_is_behind_the_slices() {
        let table = [
            ("/system.slice/app.service", "app.service"),
            (
                "/system.slice/system-app.slice/app@1.service",
                "app@1.service",
            ),
            ("/system.slice/docker.service/abc/def", "docker.service"),
            ("/system.slice/docker-0a1b.scope", "docker-0a1b.scope"),
            ("/init.scope", "init.scope"),
            (
                "/user.slice/user-1000.slice/session-3.scope",
                "session-3.scope",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.slice/x.service",
                "user@1000.service/x.service",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                "user@1000.service/init.scope",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service",
                "user@1000.service",
            ),
            ("/system.slice/_cpu.service", "cpu.service"),
            ("/system.slice/dev-disk\\x2d1.swap", "dev-disk\\x2d1.swap"),
        ];
        for (cgroup, unit) in table {
            let found = Unit::of_cgroup(Path::new(cgroup)).map(|unit| unit.to_string());
            assert_eq!(found.as_deref(), Some(unit), "{cgroup}");
        }
    }

    #[test]
    fn outside_of_units_there_is_none() {
        for cgroup in [
            "",
            "/",
            "/system.slice",
            "/docker/0a1b",
            "/system.slice/.service",
            "/system.slice/a\u{1b}[31m.service",
            "/../../app",
        ] {
            assert_eq!(Unit::of_cgroup(Path::new(cgroup)), None, "{cgroup:?}");
        }
    }

    #[test]
    fn the_path_is_of_the_hierarchy_in_use() {
        let table: [(&str, Option<&str>); 7] = [
            (
                "0::/system.slice/a.service\n",
                Some("/system.slice/a.service"),
            ),
            (
                "9:name=systemd:/a.scope\n8:pids:/x\n0::/\n",
                Some("/a.scope"),
            ),
            ("9:name=systemd:/a.scope\n0::/b.scope\n", Some("/b.scope")),
            ("9:name=systemd:/a:b\n", Some("/a:b")),
            ("0::/\n", Some("/")),
            ("8:pids:/x\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(path(text.as_bytes()), expected.map(str::as_bytes), "{text}");
        }
    }
}
