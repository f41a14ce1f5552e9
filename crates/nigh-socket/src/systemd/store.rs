//! Listeners that outlive the service, even a crash: the manager keeps them, and the next process takes them back.

use std::fmt::Write as _;

use super::{ActivationError, Notifier, descriptors, take};
use crate::address::Address;
use crate::listener::{BindError, Listener, ListenerOptions};

/// Why a listener is not one that outlives the service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// What the manager passed is not usable.
    #[error("take back what the service manager has kept")]
    Activation(#[from] ActivationError),
    /// Nothing was kept, and the address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It listens, but the manager was not asked to keep it.
    #[error(transparent)]
    Notify(#[from] super::NotifyError),
}

impl KeepError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Activation(error) => error.hint(),
            Self::Bind(error) => error.hint(),
            Self::Notify(error) => error.hint(),
        }
    }
}

impl Notifier {
    /// Listens on the socket that the manager has kept for this address, or binds it and has it kept: then callers wait in
    /// its queue while the service is started again, after a crash, too, and none is refused.
    ///
    /// It is kept under the options' name, or under one made of its address. Its path is not removed at the end, for it
    /// belongs to the manager's socket then; one that leads elsewhere, or nowhere, is bound anew. Blocks as
    /// [`ListenerOptions::bind`] does.
    ///
    /// Trap: a manager that keeps nothing (`FileDescriptorStoreMax=` is 0) does not say so; [`stores`](Self::stores) does,
    /// from systemd 254 on.
    ///
    /// # Errors
    /// [`KeepError`]: nothing listens then.
    pub fn listen(
        &self,
        options: &ListenerOptions,
        address: &Address,
    ) -> Result<Listener, KeepError> {
        let options = match options.has_name() {
            true => options.clone(),
            false => options.clone().name(name_of(address)),
        };
        let name = options.name_text();
        let has_one = |name: &str| -> Result<bool, ActivationError> {
            let all = descriptors()?;
            Ok(all.iter().any(|one| !one.is_taken && one.name == name))
        };
        while has_one(name)? {
            match options.take_back(take(name)?, address) {
                Ok(listener) => return Ok(listener),
                Err(error) => {
                    tracing::warn!("{address} is bound anew, for what was kept is not it: {error}");
                    self.forget(name)?;
                }
            }
        }
        let listener = options.bind(address)?;
        self.store_listener(&listener)?;
        Ok(listener.kept())
    }
}

/// What it is kept under: the address, less what a name cannot have.
fn name_of(address: &Address) -> String {
    let mut name = String::new();
    for byte in address.to_string().bytes() {
        match byte {
            // Its own hexadecimal digits make it different from any other address.
            b':' | 0x80.. => drop(write!(name, "%{byte:02X}")),
            byte => name.push(char::from(byte)),
        }
    }
    // A path may be longer than a name: its end tells more.
    let cut = name
        .len()
        .saturating_sub(crate::address::DESCRIPTOR_NAME_BYTES_MAX);
    name.split_off(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::is_name;

    #[test]
    fn every_address_has_a_name() {
        let long = format!("unix:/{}", "x".repeat(4000));
        for text in [
            "unix:/run/a:b",
            "tcp:[::1]:80",
            "unix:/\u{e4}",
            "autobind:",
            &long,
        ] {
            let name = name_of(&text.parse().unwrap());
            assert!(!name.is_empty() && is_name(&name), "{name}");
        }
        assert_eq!(name_of(&"unix:/a".parse().unwrap()), "unix%3A/a");
    }
}
