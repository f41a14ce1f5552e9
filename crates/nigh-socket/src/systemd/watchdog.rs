//! How often the service manager wants to hear that the service is alive (sd_watchdog_enabled(3)).

use std::ffi::OsString;
use std::time::Duration;

use super::announcement::number;
use super::{ActivationError, NotifyError};

/// A service manager that kills the service when it does not hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    patience: Duration,
}

impl Watchdog {
    /// What the environment says to the process `us`; none when the manager does not watch, or watches another process.
    pub(super) fn read(
        time: Option<OsString>,
        pid: Option<OsString>,
        us: u32,
    ) -> Result<Option<Self>, NotifyError> {
        let Some(time) = time else { return Ok(None) };
        if let Some(pid) = pid
            && parsed::<u32>("WATCHDOG_PID", &pid)? != us
        {
            return Ok(None);
        }
        match parsed::<u64>("WATCHDOG_USEC", &time)? {
            0 => Err(NotifyError::Malformed {
                variable: "WATCHDOG_USEC",
                value: time,
            }),
            micros => Ok(Some(Self {
                patience: Duration::from_micros(micros),
            })),
        }
    }

    /// After how long a silence the manager acts.
    #[must_use]
    pub fn patience(self) -> Duration {
        self.patience
    }

    /// How often to speak: twice in that time, as sd_watchdog_enabled(3) recommends.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.patience / 2
    }
}

fn parsed<T: std::str::FromStr>(
    variable: &'static str,
    value: &OsString,
) -> Result<T, NotifyError> {
    number(variable, value).map_err(|error| match error {
        ActivationError::Malformed { variable, value } => {
            NotifyError::Malformed { variable, value }
        }
        _ => NotifyError::Malformed {
            variable,
            value: value.clone(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_watchdog_is_fed() {
        let read = |time: &str, pid: Option<&str>| {
            let found = Watchdog::read(Some(time.into()), pid.map(Into::into), 7);
            found.map(|found| found.map(Watchdog::interval)).ok()
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(Watchdog::read(None, Some("7".into()), 7).ok(), Some(None));
        assert_eq!(read("2000000", None), Some(second));
        assert_eq!(read("2000000", Some("7")), Some(second));
        assert_eq!(read("2000000", Some("8")), Some(None));
        for (time, pid) in [("0", None), ("-1", None), ("2s", None), ("1", Some("me"))] {
            assert_eq!(read(time, pid), None, "{time} {pid:?}");
        }
    }
}
