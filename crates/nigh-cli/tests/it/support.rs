//! A stock tonic server with the diagnostic service on a Unix socket, and stock channels to it.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use nigh_cli::diag::pb::diag_server::DiagServer;
use nigh_cli::diag::{Counters, Diag, FILE_DESCRIPTOR_SET, ServerCounts};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};

/// Which reflection service a server has.
#[derive(Clone, Copy)]
pub(crate) enum Reflection {
    None,
    V1,
    V1Alpha,
}

/// A server that lives as long as the value.
pub(crate) struct Stock {
    _folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
    path: PathBuf,
}

impl Stock {
    pub(crate) fn start(reflection: Reflection) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
        let counters = Counters::new(ServerCounts::default);
        let server = Server::builder().add_service(DiagServer::new(Diag::new(counters)));
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
        let server = match reflection {
            Reflection::None => server,
            Reflection::V1 => server.add_service(builder.build_v1().unwrap()),
            Reflection::V1Alpha => server.add_service(builder.build_v1alpha().unwrap()),
        };
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self {
            _folder: folder,
            task,
            path,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("unix:{}", self.path.display()))
            .unwrap()
            .connect_timeout(Duration::from_secs(5))
            .connect()
            .await
            .unwrap()
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.task.abort();
    }
}
