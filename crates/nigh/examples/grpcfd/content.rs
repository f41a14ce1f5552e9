//! Files that say their name, and messages that name them: one `inode://` URL per line.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nigh::{Descriptors, InodeUrl};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::Payload;
use tonic::Status;

/// How long to wait for a file whose URL is here already.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where such files are made.
#[derive(Debug, Clone)]
pub(crate) struct Made(Arc<TempSocket>);

impl Made {
    pub(crate) fn new() -> Self {
        Self(Arc::new(TempSocket::private()))
    }

    pub(crate) fn path(&self, name: &str) -> Result<PathBuf, Status> {
        let path = self.0.join(name.replace(' ', "-"));
        std::fs::write(&path, name)?;
        Ok(path)
    }

    pub(crate) fn open(&self, name: &str) -> Result<File, Status> {
        Ok(File::open(self.path(name)?)?)
    }
}

/// What the files say that a message names.
pub(crate) async fn contents(fds: &Descriptors, message: &Payload) -> Result<Vec<String>, Status> {
    let mut contents = Vec::new();
    for url in String::from_utf8_lossy(&message.data).split_whitespace() {
        let url: InodeUrl = url.parse().map_err(|_| Status::invalid_argument(url))?;
        let fd = fds.claim(url, PATIENCE).await?;
        // One sent by name only (`O_PATH`) has to be opened again, and any other may be.
        let mut content = String::new();
        nigh::reopen(fd, OpenOptions::new().read(true))?.read_to_string(&mut content)?;
        contents.push(content);
    }
    Ok(contents)
}

pub(crate) fn message(urls: &[InodeUrl]) -> Payload {
    let urls: Vec<String> = urls.iter().map(InodeUrl::to_string).collect();
    let data = urls.join("\n").into_bytes();
    Payload { data }
}
