//! The file that tells a listener's address: written when it listens, its successor's once that serves.
//!
//! The successor puts its own in place, over the predecessor's, before it says that it serves. So there is always one, and
//! whose it is tells its inode: each removes only the file that it wrote itself.

use std::path::PathBuf;
use std::time::Duration;

use super::{BindFault, Existing, Listener};
use crate::address::Address;
use crate::publish::{Published, UnpublishError, address_file};

#[derive(Debug)]
pub(super) struct Advertised {
    file: Published,
    path: PathBuf,
    lock_wait: Duration,
}

impl Advertised {
    pub(super) fn write(
        path: PathBuf,
        existing: Existing,
        lock_wait: Duration,
        address: Address,
    ) -> Result<Self, BindFault> {
        let wanted = address_file::Wanted {
            file: &path,
            existing,
            lock_wait,
        };
        let file = address_file::write(&wanted, address)?;
        Ok(Self {
            file,
            path,
            lock_wait,
        })
    }

    /// Removes it, unless another has been put in its place.
    pub(super) fn unpublish(&self, wait: Duration) -> Result<(), UnpublishError> {
        self.file.unpublish(wait)
    }

    fn is_in_place(&self) -> bool {
        let entry = self.file.entry();
        entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.identity() == self.file.identity()))
    }

    fn again(&self, address: Address) -> Result<Self, BindFault> {
        let existing = Existing::TakeOver;
        Self::write(self.path.clone(), existing, self.lock_wait, address)
    }
}

impl Listener {
    /// Puts the file back in place of one that a successor wrote which does not serve any more.
    pub(crate) fn advertise_again(&self) -> Result<(), BindFault> {
        let mut advertised = self.advertised();
        if let Some(ours) = advertised.as_ref()
            && !ours.is_in_place()
        {
            let again = ours.again(self.address.clone())?;
            *advertised = Some(again);
        }
        Ok(())
    }
}
