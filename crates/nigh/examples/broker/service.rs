//! The broker's handler. It gives the open file, never the right to open: what a caller names stays beneath the root.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nigh::{DescriptorsExt as _, FileKind, RequestExt as _, fdcheck};
use nigh_testkit::service::proto::broker_server::Broker;
use nigh_testkit::service::proto::wish::Wish as Kind;
use nigh_testkit::service::proto::{Gift, Wish};
use tonic::{Request, Response, Status};

/// Gives files beneath one directory, for reading, and certain ports of the loopback address.
#[derive(Debug)]
pub(crate) struct Giver {
    root: Arc<File>,
    ports: Arc<[u16]>,
}

impl Giver {
    pub(crate) fn new(root: &str, ports: &[u16]) -> std::io::Result<Self> {
        let (root, ports) = (Arc::new(File::open(root)?), ports.into());
        Ok(Self { root, ports })
    }

    async fn grant(&self, wish: &Wish) -> Result<OwnedFd, Status> {
        let (root, wish) = (Arc::clone(&self.root), wish.wish.clone());
        let ports = Arc::clone(&self.ports);
        // Opening may wait for a disk or a network: not on the reactor.
        let giving = tokio::task::spawn_blocking(move || match wish {
            // Neither `..` nor a link leads out of the root, also while somebody changes it.
            Some(Kind::Open(name)) => open(&root, &name),
            Some(Kind::Bind(port)) => {
                let port = ports.iter().find(|one| u32::from(**one) == port);
                let port = port.ok_or_else(|| Status::permission_denied("not one of the ports"))?;
                Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?.into())
            }
            None => Err(Status::invalid_argument("nothing was asked for")),
        });
        giving
            .await
            .map_err(|error| Status::internal(error.to_string()))?
    }
}

fn open(root: &File, name: &str) -> Result<OwnedFd, Status> {
    let opened = nigh_socket::open_beneath(root, name, false);
    let file = opened.map_err(|error| Status::permission_denied(format!("open: {error}")))?;
    // A directory would lead out of the root, by `..`.
    fdcheck::require_kind(&file, FileKind::Regular)
        .map_err(|error| Status::permission_denied(error.to_string()))?;
    Ok(file)
}

#[tonic::async_trait]
impl Broker for Giver {
    async fn give(&self, request: Request<Wish>) -> Result<Response<Gift>, Status> {
        let given = self.grant(request.get_ref()).await;
        let verdict = given.as_ref().map_or_else(Status::message, |_| "given");
        // The caller's words are shown escaped: they cannot forge a line.
        let wish = &request.get_ref().wish;
        println!("audit: {}: {wish:?}: {verdict}", request.peer());
        let mut reply = Response::new(Gift::default());
        reply.get_mut().fd = reply.attach(given?)?.into();
        Ok(reply)
    }
}
