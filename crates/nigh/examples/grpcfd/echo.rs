//! What the server gives back: a file for each that a message names.

use nigh::Descriptors;
use nigh_testkit::service::proto::Payload;
use tonic::Status;

use crate::content::{Made, contents, message};

impl Made {
    /// A file back, through `given`, for each that a message names.
    pub(crate) async fn echoed(
        &self,
        fds: &Descriptors,
        given: &Descriptors,
        named: &Payload,
    ) -> Result<Payload, Status> {
        let mut urls = Vec::new();
        for name in contents(fds, named).await? {
            let file = self.open(&format!("echo {name}"))?;
            urls.push(given.attach_inode(file)?);
        }
        Ok(message(&urls))
    }
}
