//! grpcfd's way: descriptors that belong to no call, found by the file they lead to.
//!
//! Trap: two descriptions of one inode share a key, and all pipes' ends, eventfds and pidfds of a kind may: this mode
//! is for files with names, and only for talking to grpcfd.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nigh_socket::Inode;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::arrivals::Arrival;
use super::call::Came;
use super::closer;
use super::error::{Loss, TakeError};
use super::quota::Account;

/// How grpcfd names a file in a message: `inode://DEVICE/INODE`, both decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InodeUrl {
    /// The device, as `stat` gives it in `st_dev`.
    pub device: u64,
    /// The inode number, `st_ino`.
    pub inode: u64,
}

/// The text is not an `inode://` URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an inode URL: expected inode://DEVICE/INODE, both decimal")]
pub struct BadInodeUrl;

impl InodeUrl {
    /// The URL of the file that a descriptor leads to.
    ///
    /// # Errors
    /// What `statx` reports.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        let Inode { device, number } = Inode::of(fd)?;
        Ok(Self {
            device,
            inode: number,
        })
    }
}

impl fmt::Display for InodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode://{}/{}", self.device, self.inode)
    }
}

impl FromStr for InodeUrl {
    type Err = BadInodeUrl;

    fn from_str(text: &str) -> Result<Self, BadInodeUrl> {
        let decimal = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = if digits { text.parse().ok() } else { None };
            number.ok_or(BadInodeUrl)
        };
        let rest = text.strip_prefix("inode://").ok_or(BadInodeUrl)?;
        let (device, inode) = rest.split_once('/').ok_or(BadInodeUrl)?;
        Ok(Self {
            device: decimal(device)?,
            inode: decimal(inode)?,
        })
    }
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    files: VecDeque<(InodeUrl, Came)>,
    loss: Option<Loss>,
    closed: bool,
}

/// One connection's files.
#[derive(Debug)]
pub(crate) struct InodeTable {
    files_max: usize,
    state: Mutex<State>,
    changed: Notify,
}

impl InodeTable {
    pub(super) fn new(files_max: u32) -> Self {
        Self {
            files_max: files_max as usize,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what came. The newest descriptor of a file replaces an older one; above the limit the oldest file goes.
    pub(super) fn arrived(&self, arrival: Arrival, account: &Account) {
        let mut gone = Vec::new();
        let mut state = self.state();
        if arrival.truncated {
            state.loss = Some(Loss::Truncated);
        }
        for fd in arrival.fds {
            let Ok(url) = InodeUrl::of(&fd) else {
                state.loss = Some(Loss::SendFailed);
                gone.push(fd);
                continue;
            };
            if let Some(at) = state.files.iter().position(|(its, _)| *its == url) {
                gone.extend(state.files.remove(at).map(|(_, came)| came.fd));
            }
            if state.files.len() >= self.files_max {
                gone.extend(state.files.pop_front().map(|(_, came)| came.fd));
            }
            match account.charge() {
                Ok(charge) if !state.closed => {
                    let came = Came {
                        fd,
                        _charge: charge,
                    };
                    state.files.push_back((url, came));
                }
                Ok(_) => gone.push(fd),
                Err(loss) => {
                    state.loss = Some(loss);
                    gone.push(fd);
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
        if !gone.is_empty() {
            closer::drop_off(gone);
        }
    }

    fn find(&self, url: InodeUrl) -> Result<Option<OwnedFd>, TakeError> {
        let state = self.state();
        if let Some((_, came)) = state.files.iter().find(|(its, _)| *its == url) {
            let duplicate = came.fd.try_clone();
            return duplicate.map(Some).map_err(|error| TakeError::Duplicate {
                url,
                kind: error.kind(),
            });
        }
        if state.closed {
            return Err(TakeError::Ended);
        }
        Ok(None)
    }

    /// A duplicate of the file's descriptor, as soon as it has come; until `deadline`.
    pub(super) async fn claim(
        &self,
        url: InodeUrl,
        deadline: Instant,
    ) -> Result<OwnedFd, TakeError> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if let Some(fd) = self.find(url)? {
                    return Ok(fd);
                }
                changed.await;
            }
        };
        match tokio::time::timeout_at(deadline, waiting).await {
            Ok(found) => found,
            Err(_) => Err(match self.state().loss {
                Some(loss) => TakeError::Lost(loss),
                None => TakeError::TimedOut { url },
            }),
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let files = std::mem::take(&mut state.files);
        drop(state);
        self.changed.notify_waiters();
        if !files.is_empty() {
            closer::drop_off(files);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn urls_are_decimal_and_nothing_else() {
        let url = InodeUrl {
            device: 4,
            inode: 4_026_534_206,
        };
        assert_eq!(url.to_string(), "inode://4/4026534206");
        assert_eq!("inode://4/4026534206".parse(), Ok(url));
        for text in [
            "inode://4",
            "inode:///4",
            "inode://x/1",
            "inode://1/2/3",
            "file://1/2",
            "inode://+1/2",
        ] {
            assert_eq!(text.parse::<InodeUrl>(), Err(BadInodeUrl), "{text}");
        }
    }

    fn arrival(fds: Vec<OwnedFd>) -> Arrival {
        Arrival {
            start: 0,
            end: 1,
            fds,
            truncated: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_may_come_before_and_again_and_runs_out_of_time() {
        let table = std::sync::Arc::new(InodeTable::new(1));
        let account = Account::new(9, None);
        let (first, second) = (tempfile(), tempfile());
        let (url, other) = (
            InodeUrl::of(&first).unwrap(),
            InodeUrl::of(&second).unwrap(),
        );
        let soon = Instant::now() + Duration::from_secs(5);
        let early = tokio::spawn({
            let table = std::sync::Arc::clone(&table);
            async move { table.claim(url, soon).await }
        });
        tokio::task::yield_now().await;
        table.arrived(arrival(vec![first]), &account);
        assert_eq!(InodeUrl::of(early.await.unwrap().unwrap()).unwrap(), url);
        assert_eq!(
            InodeUrl::of(table.claim(url, soon).await.unwrap()).unwrap(),
            url
        );
        table.arrived(arrival(vec![second]), &account);
        assert!(table.claim(other, soon).await.is_ok());
        assert_eq!(
            table.claim(url, soon).await.unwrap_err(),
            TakeError::TimedOut { url }
        );
        table.close();
        assert_eq!(
            table.claim(other, soon).await.unwrap_err(),
            TakeError::Ended
        );
    }

    fn tempfile() -> OwnedFd {
        let (reader, _) = io::pipe().unwrap();
        reader.into()
    }
}
