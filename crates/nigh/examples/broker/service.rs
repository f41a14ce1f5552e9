//! The broker's handler. It gives the open file, never the right to open: what a caller names stays beneath the root.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nigh::{DescriptorsExt as _, RequestExt as _};
use nigh_testkit::service::proto::broker_server::Broker;
use nigh_testkit::service::proto::wish::Wish as Kind;
use nigh_testkit::service::proto::{Gift, Wish};
use tonic::{Request, Response, Status};

/// Files beneath one directory, for reading, and ports of the loopback address.
#[derive(Debug)]
pub(crate) struct Files {
    root: Arc<File>,
}

impl Files {
    pub(crate) fn beneath(root: &str) -> std::io::Result<Self> {
        let root = Arc::new(File::open(root)?);
        Ok(Self { root })
    }

    async fn grant(&self, wish: &Wish) -> Result<OwnedFd, Status> {
        let (root, wish) = (Arc::clone(&self.root), wish.wish.clone());
        // Opening may wait for a disk or a network: not on the reactor.
        let giving = tokio::task::spawn_blocking(move || match wish {
            // Neither `..` nor a link leads out of the root, also while somebody changes it.
            Some(Kind::Open(name)) => nigh_socket::open_beneath(&*root, name, false)
                .map_err(|error| Status::permission_denied(format!("open: {error}"))),
            Some(Kind::Bind(port)) => {
                let port = u16::try_from(port);
                let port = port.map_err(|_| Status::invalid_argument("bind: not a port"))?;
                Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.into())
            }
            None => Err(Status::invalid_argument("nothing was asked for")),
        });
        giving
            .await
            .map_err(|error| Status::internal(error.to_string()))?
    }
}

#[tonic::async_trait]
impl Broker for Files {
    async fn give(&self, request: Request<Wish>) -> Result<Response<Gift>, Status> {
        let given = self.grant(request.get_ref()).await;
        let verdict = match &given {
            Ok(_) => "given".to_owned(),
            Err(status) => format!("refused: {}", status.message()),
        };
        // The caller's words are shown escaped: they cannot forge a line.
        let wish = &request.get_ref().wish;
        println!("audit: {}: {wish:?}: {verdict}", request.peer());
        let mut reply = Response::new(Gift::default());
        reply.get_mut().fd = reply.attach(given?)?.into();
        Ok(reply)
    }
}
