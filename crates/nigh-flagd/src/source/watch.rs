//! inotify on the directories that decide what a file's name means.
//!
//! Trap: a watch of the file itself dies with its inode, which is how ConfigMaps and editors replace files;
//! so directories are watched: the one of the name, and those that its symbolic links lead through.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Symbolic links followed in one name, as the kernel has it.
const LINKS_MAX: usize = 40;

/// What happened, put together over all events that were waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stir {
    /// Something was renamed, removed or linked: whoever did it was done before.
    Whole,
    /// Something is being written in place, and may be half done.
    Writing,
}

/// Watches for one file.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "the replacement is unsafe, and an OwnedFd keeps its descriptor while it lives"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Self {
            inotify,
            watched: BTreeSet::new(),
        })
    }

    /// Watches the directories that `path` leads through now. Those that cannot be watched are left to
    /// polling.
    pub(super) fn aim(&mut self, path: &Path) {
        let directories = directories(path);
        let flags = WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        // Adding one twice changes nothing, and renews one whose directory was replaced.
        self.watched = directories
            .into_iter()
            .filter(|directory| inotify::add_watch(&self.inotify, directory, flags).is_ok())
            .collect();
    }

    /// Completes when something happened in one of the directories.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(super) async fn stirred(&self) -> io::Result<Stir> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|inotify| drain(inotify.get_ref())) {
                Ok(result) => match result? {
                    Some(stir) => return Ok(stir),
                    None => continue,
                },
                Err(_would_block) => continue,
            }
        }
    }
}

/// Reads every event that waits; a rename among them is worth more than a write.
fn drain(inotify: &OwnedFd) -> io::Result<Option<Stir>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut seen = None;
    loop {
        match reader.next() {
            Ok(event) => {
                let writing = ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE | ReadFlags::CREATE;
                if event.events().intersects(writing) {
                    seen = seen.or(Some(Stir::Writing));
                } else if !event.events().contains(ReadFlags::IGNORED) {
                    seen = Some(Stir::Whole);
                }
            }
            Err(rustix::io::Errno::AGAIN) if seen.is_some() => return Ok(seen),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The directory of `path`, and of every name that its links lead to.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut names = vec![path.to_path_buf()];
    let mut links = 0;
    while let Some(name) = names.pop() {
        let parent = match name.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new(".").to_path_buf(),
            Some(parent) => parent.to_path_buf(),
            None => continue,
        };
        if let Ok(target) = std::fs::read_link(&name)
            && links < LINKS_MAX
        {
            links += 1;
            names.push(parent.join(target));
        }
        // A directory on the way may be a link itself: `..data` of a ConfigMap.
        for ancestor in parent
            .ancestors()
            .filter(|ancestor| !ancestor.as_os_str().is_empty())
        {
            let is_link = std::fs::symlink_metadata(ancestor).is_ok_and(|kind| kind.is_symlink());
            if is_link && links < LINKS_MAX && !found.contains(ancestor) {
                names.push(ancestor.to_path_buf());
            }
        }
        found.insert(parent);
    }
    found
}
