//! A short-named directory of a test's own, with the mode the test asks for, removed when dropped.
//!
//! Trap: `TMPDIR` may be long (a socket path has 107 bytes) and closed to other users, so the directory is in `/tmp`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory and the path of a socket in it, which nothing has created yet.
#[derive(Debug)]
pub struct TempSocket {
    directory: TempDir,
    path: PathBuf,
}

impl TempSocket {
    /// In a directory that only this user can enter (0700).
    #[must_use]
    pub fn private() -> Self {
        Self::with_mode(0o700)
    }

    /// In a directory that every user can enter and only this one can change (0755).
    #[must_use]
    pub fn shared() -> Self {
        Self::with_mode(0o755)
    }

    /// In a directory with exactly this mode, whatever the umask.
    ///
    /// # Panics
    /// When `/tmp` takes no directory.
    #[must_use]
    pub fn with_mode(mode: u32) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("nigh-")
            .tempdir_in("/tmp")
            .expect("a directory in /tmp");
        std::fs::set_permissions(directory.path(), Permissions::from_mode(mode))
            .expect("the mode of our own directory");
        let path = directory.path().join("s");
        Self { directory, path }
    }

    /// The socket's path: under 30 bytes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket's address as text: `unix:` and the path.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of another name in the same directory.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The names in the directory, sorted: what a test left behind.
    ///
    /// # Panics
    /// When the directory cannot be read.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).expect("our own directory");
        let mut names: Vec<String> = entries
            .map(|entry| {
                let name = entry.expect("an entry of our own directory").file_name();
                name.to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }
}
