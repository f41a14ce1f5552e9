//! Descriptors that the command has given to be kept: it gets them again when it is started anew.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;

/// One of them.
#[derive(Debug)]
struct Kept {
    name: String,
    file: OwnedFd,
    /// It goes when it hangs up.
    polled: bool,
    /// What it is, where that says whether two are the same.
    socket: Option<u64>,
}

/// All of them, as many as are allowed.
#[derive(Debug)]
pub(super) struct Store {
    kept: Vec<Kept>,
    max: usize,
}

impl Store {
    pub(super) fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            max,
        }
    }

    /// Keeps them; answers how many there was no room for.
    pub(super) fn keep(&mut self, name: &str, files: Vec<OwnedFd>, polled: bool) -> usize {
        self.sweep();
        let mut refused = 0;
        for file in files {
            let socket = socket_of(&file);
            // The same socket again has a name already, and the first one counts, as with systemd.
            if socket.is_some() && self.kept.iter().any(|kept| kept.socket == socket) {
                continue;
            }
            if self.kept.len() >= self.max {
                refused += 1;
                continue;
            }
            self.kept.push(Kept {
                name: name.to_owned(),
                file,
                polled,
                socket,
            });
        }
        refused
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.kept.retain(|kept| kept.name != name);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(|kept| kept.name.as_str())
    }

    /// Each with its name, to be passed on.
    pub(super) fn files(&mut self) -> impl Iterator<Item = (&str, &OwnedFd)> {
        self.sweep();
        self.kept
            .iter()
            .map(|kept| (kept.name.as_str(), &kept.file))
    }

    /// Drops what has hung up.
    fn sweep(&mut self) {
        self.kept.retain(|kept| {
            if !kept.polled {
                return true;
            }
            let mut state = [PollFd::from_borrowed_fd(
                kept.file.as_fd(),
                PollFlags::empty(),
            )];
            let at_once = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            match rustix::event::poll(&mut state, Some(&at_once)) {
                Ok(_) => !state[0]
                    .revents()
                    .intersects(PollFlags::HUP | PollFlags::ERR),
                // What cannot be told stays.
                Err(_) => true,
            }
        });
    }
}

/// The number of a socket, which is the same for every descriptor of it.
fn socket_of(file: &OwnedFd) -> Option<u64> {
    let found = rustix::fs::fstat(file).ok()?;
    let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
    is_socket.then_some(found.st_ino)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn the_store_is_bounded_and_knows_what_is_the_same_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        let mut store = Store::new(3);
        let copy = || OwnedFd::from(listener.try_clone().unwrap());
        assert_eq!(store.keep("web", vec![copy(), copy()], true), 0);
        assert_eq!(store.keep("again", vec![copy()], true), 0);
        assert_eq!(store.names().collect::<Vec<_>>(), ["web"]);
        let state = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert_eq!(
            store.keep("state", vec![state(), state(), state()], true),
            1
        );
        store.forget("state");
        assert_eq!(store.keep("pair", vec![a.into()], true), 0);
        assert_eq!(store.files().count(), 2);
        drop(b);
        assert_eq!(
            store.files().map(|(name, _)| name).collect::<Vec<_>>(),
            ["web"]
        );
        let (a, b) = UnixStream::pair().unwrap();
        assert_eq!(store.keep("kept", vec![a.into()], false), 0);
        drop(b);
        assert_eq!(store.files().count(), 2);
    }
}
