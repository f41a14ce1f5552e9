//! Tells the service manager how the service is doing, and gives it descriptors to keep (sd_notify(3)).
//!
//! Trap: `NOTIFY_SOCKET` is inherited by children, whose messages a manager may believe; see [`super::VARIABLES`].

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::time::ClockId;

use super::{NotifyError, State, Watchdog};
use crate::address::Address;
use crate::blocking::UnixDatagram;
use crate::handover::is_name;
use crate::listener::Listener;

/// How long a message waits for a manager whose queue is full.
const SEND_TIME_MAX: Duration = Duration::from_secs(5);

/// A service manager that wants to be told.
///
/// A message is a datagram: that it was sent does not mean that it was believed; [`barrier`](Self::barrier) waits until it
/// was at least looked at. systemd believes the main process of a unit of `Type=notify`, or whom `NotifyAccess=` names.
#[derive(Debug, Clone)]
pub struct Notifier {
    address: Address,
    watchdog: Option<Watchdog>,
    stores: bool,
}

impl Notifier {
    /// The manager that the environment names (`NOTIFY_SOCKET`); `None` when it names none, as when the service was
    /// started by hand.
    ///
    /// # Errors
    /// [`NotifyError`] when it names something else than a Unix socket, or says nonsense about the watchdog.
    pub fn from_environment() -> Result<Option<Self>, NotifyError> {
        let variable = |name| std::env::var_os(name);
        let Some(socket) = variable("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let address = match socket.as_bytes() {
            [b'/', ..] => Address::Path(socket.clone().into()),
            [b'@', name @ ..] => Address::Abstract(name.to_vec()),
            text if text.starts_with(b"vsock") => return Err(NotifyError::Vsock(socket)),
            _ => return Err(NotifyError::Address(socket)),
        };
        if address.check().is_err() {
            return Err(NotifyError::Address(socket));
        }
        let (time, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        Ok(Some(Self {
            address,
            watchdog: Watchdog::read(time, pid, std::process::id())?,
            stores: variable("FDSTORE").is_some(),
        }))
    }

    /// A manager that listens at this path or abstract name; it does not watch, and says nothing of a store.
    #[must_use]
    pub fn at(address: Address) -> Self {
        Self {
            address,
            watchdog: None,
            stores: false,
        }
    }

    /// Whether and how often it wants to hear that the service is alive.
    #[must_use]
    pub fn watchdog(&self) -> Option<Watchdog> {
        self.watchdog
    }

    /// Whether it says that it keeps descriptors (`FDSTORE`, systemd from 254 on). An older one may keep them all the same.
    #[must_use]
    pub fn stores(&self) -> bool {
        self.stores
    }

    /// Sends a message. Blocks, at most 5 s, while the manager's queue is full.
    ///
    /// # Errors
    /// [`NotifyError`]: nothing was sent then.
    pub fn send(&self, state: &State) -> Result<(), NotifyError> {
        self.send_with(state, &[])
    }

    /// Sends a message if that needs no waiting.
    ///
    /// # Errors
    /// [`NotifyError`]: nothing was sent then.
    pub fn try_send(&self, state: &State) -> Result<(), NotifyError> {
        let socket = self.connected()?;
        socket
            .try_send(&[IoSlice::new(state.text().as_bytes())], &[])
            .map_err(NotifyError::Send)
    }

    /// Has the manager keep descriptors under a name, and pass them again when the service starts anew: `LISTEN_FDNAMES`
    /// names them then. With `polled` it drops one that hangs up or fails.
    ///
    /// Trap: one that does not keep any (`FileDescriptorStoreMax=` is 0) says nothing, and closes them.
    ///
    /// # Errors
    /// [`NotifyError`]: nothing was stored then.
    pub fn store(
        &self,
        name: &str,
        fds: &[BorrowedFd<'_>],
        polled: bool,
    ) -> Result<(), NotifyError> {
        let state = State::new()
            .assign("FDSTORE", "1")
            .assign("FDNAME", stored_name(name)?);
        let state = match polled {
            true => state,
            false => state.assign("FDPOLL", "0"),
        };
        self.send_with(&state, fds)
    }

    /// Has the manager keep a listener under its name.
    ///
    /// # Errors
    /// As for [`store`](Self::store); a listener without a name cannot be found again.
    pub fn store_listener(&self, listener: &Listener) -> Result<(), NotifyError> {
        self.store(listener.name(), &[listener.as_fd()], true)
    }

    /// Has the manager drop what it keeps under this name.
    ///
    /// # Errors
    /// [`NotifyError`]: nothing was sent then.
    pub fn forget(&self, name: &str) -> Result<(), NotifyError> {
        let state = State::new().assign("FDSTOREREMOVE", "1");
        self.send(&state.assign("FDNAME", stored_name(name)?))
    }

    /// Says that the configuration is read again; [`State::ready`] has to follow.
    ///
    /// # Errors
    /// [`NotifyError`]: nothing was sent then.
    pub fn reloading(&self) -> Result<(), NotifyError> {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        // The monotonic clock begins at 0 and its nanoseconds are below a second.
        let now = Duration::try_from(now).unwrap_or_default();
        self.send(&State::new().reloading(now))
    }

    /// Waits until the manager has looked at everything that was sent before: it closes a descriptor then.
    ///
    /// # Errors
    /// [`NotifyError::Barrier`] when it does not within `timeout`.
    pub fn barrier(&self, timeout: Duration) -> Result<(), NotifyError> {
        let (ours, theirs) = std::io::pipe().map_err(NotifyError::Socket)?;
        self.send_with(&State::new().assign("BARRIER", "1"), &[theirs.as_fd()])?;
        drop(theirs);
        let deadline = std::time::Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let left = Timespec::try_from(left).ok();
            // The end of the other side is always told.
            let mut closed = [PollFd::new(&ours, PollFlags::empty())];
            match rustix::event::poll(&mut closed, left.as_ref()) {
                Ok(0) => return Err(NotifyError::Barrier(timeout)),
                Ok(_) if closed[0].revents().contains(PollFlags::HUP) => return Ok(()),
                Ok(_) => return Err(NotifyError::Socket(Errno::BADF.into())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(NotifyError::Socket(error.into())),
            }
        }
    }

    fn send_with(&self, state: &State, fds: &[BorrowedFd<'_>]) -> Result<(), NotifyError> {
        let socket = self.connected()?;
        socket
            .send(&[IoSlice::new(state.text().as_bytes())], fds)
            .map_err(NotifyError::Send)
    }

    /// A new socket for each message, as a manager may have been started anew since the last.
    fn connected(&self) -> Result<UnixDatagram, NotifyError> {
        let mut socket = UnixDatagram::unbound().map_err(NotifyError::Socket)?;
        socket
            .set_write_timeout(Some(SEND_TIME_MAX))
            .map_err(NotifyError::Socket)?;
        socket.connect(&self.address).map_err(NotifyError::Send)?;
        Ok(socket)
    }
}

fn stored_name(name: &str) -> Result<&str, NotifyError> {
    match !name.is_empty() && is_name(name) {
        true => Ok(name),
        false => Err(NotifyError::Name(name.to_owned())),
    }
}
