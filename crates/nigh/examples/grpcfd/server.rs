//! The server: a file back for each that came, and streams of as many as are asked for.

use std::pin::Pin;

use nigh::{DescriptorsExt as _, FdLimits, Listener, Policy, Server, ServerTls};
use nigh_testkit::service::proto::files_server::{Files, FilesServer};
use nigh_testkit::service::proto::{DownloadRequest, Payload};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::Fault;
use crate::content::{Made, message};

type Payloads = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

#[tonic::async_trait]
impl Files for Made {
    type ManyStream = Payloads;
    type ChatStream = Payloads;

    async fn swap(&self, mut request: Request<Payload>) -> Result<Response<Payload>, Status> {
        let fds = request.descriptors();
        let mut reply = Response::new(Payload::default());
        let given = reply.descriptors();
        *reply.get_mut() = self.echoed(&fds, &given, request.get_ref()).await?;
        Ok(reply)
    }

    async fn chat(
        &self,
        mut request: Request<Streaming<Payload>>,
    ) -> Result<Response<Payloads>, Status> {
        let (files, fds) = (self.clone(), request.descriptors());
        let answers = request.into_inner().then(move |named| {
            let (files, fds) = (files.clone(), fds.clone());
            async move { files.echoed(&fds, &fds, &named?).await }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn many(
        &self,
        mut request: Request<DownloadRequest>,
    ) -> Result<Response<Self::ManyStream>, Status> {
        let (files, fds) = (self.clone(), request.descriptors());
        let messages = (0..request.get_ref().count).map(move |number| {
            let file = files.open(&format!("download {number}"))?;
            Ok(message(&[fds.attach_inode(file)?]))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }
}

pub(crate) async fn serve(socket: &str, tls: &[String]) -> Result<(), Fault> {
    // grpcfd sends without asking, and may do so before this server runs.
    let options = Listener::options().pass_rights(true);
    let listener = options.bind(format!("unix:{socket}").as_str())?;
    let server = Server::new()
        .service(FilesServer::new(Made::new()))
        .receive_descriptors("nigh.test.v1.Files", FdLimits::with_inode_table());
    let server = match tls {
        [certificate, key] => {
            let tls = ServerTls::new(&std::fs::read(certificate)?, &std::fs::read(key)?)?;
            server.listen_tls(listener, Policy::same_user(), tls)
        }
        _ => server.listen(listener),
    };
    server.run(std::future::pending()).await?;
    Ok(())
}
