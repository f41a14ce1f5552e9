//! Payloads in sealed memory, both ways: larger than any message may be, and never read before they are known to be sealed.

use std::io::Write as _;

use nigh::{
    Descriptors, DescriptorsExt as _, MemoryFile, SealedError, Server, Wire, fdcheck, sealed,
};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::broker_client::BrokerClient;
use nigh_testkit::service::proto::broker_server::{Broker, BrokerServer};
use nigh_testkit::service::proto::wish::Wish as Kind;
use nigh_testkit::service::proto::{Gift, Wish};
use tonic::{Code, Request, Response, Status};

use super::service::{generous, on_both_wires, roomy};
use crate::common::{Served, bind};

/// tonic takes 4 MiB in a message.
const LARGE: usize = 9 << 20;
const MOST: u64 = 16 << 20;

/// Answers a payload in sealed memory with its bytes turned round.
struct Turner;

#[tonic::async_trait]
impl Broker for Turner {
    async fn give(&self, mut request: Request<Wish>) -> Result<Response<Gift>, Status> {
        let Some(Kind::Bind(index)) = request.get_ref().wish.clone() else {
            return Err(Status::invalid_argument("no payload"));
        };
        let payload = request.descriptors().take_sealed(index, MOST)?;
        let turned: Vec<u8> = payload.iter().rev().copied().collect();
        let mut reply = Response::new(Gift::default());
        reply.get_mut().fd = reply.descriptors().attach_sealed(&turned)?.into();
        Ok(reply)
    }
}

async fn served(wire: Wire) -> (Served, BrokerClient<nigh::Channel>) {
    let socket = TempSocket::private();
    let listener = bind(&socket, 0o600);
    let served = Served::of(socket, listener, |server: Server| {
        let server = server.service(BrokerServer::new(Turner));
        generous(server.receive_descriptors("nigh.test.v1.Broker", roomy()))
    });
    let options = nigh::Channel::options().wire(wire).descriptors(roomy());
    let channel = options.connect(served.address()).await.unwrap();
    (served, BrokerClient::new(channel))
}

fn asking(fds: Descriptors, index: u32) -> Request<Wish> {
    let mut request = Request::new(Wish {
        wish: Some(Kind::Bind(index)),
    });
    request.extensions_mut().insert(fds);
    request
}

async fn a_payload_beyond_every_message_goes_both_ways(wire: Wire) {
    let (served, mut client) = served(wire).await;
    for length in [0, 1, LARGE] {
        let bytes: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
        let fds = Descriptors::new();
        let index = fds.attach_sealed(&bytes).unwrap();
        let mut reply = client.give(asking(fds, index.into())).await.unwrap();
        let index = reply.get_ref().fd;
        let back = reply.descriptors().take_sealed(index, MOST).unwrap();
        // It is this side's for as long as it is held.
        drop(reply);
        assert_eq!(back.len(), length);
        assert!(back.iter().rev().eq(bytes.iter()));
    }
    served.stop().await;
}

async fn what_is_not_sealed_or_too_large_is_never_mapped(wire: Wire) {
    let (served, mut client) = served(wire).await;
    let mut open = MemoryFile::create("open").unwrap();
    open.write_all(b"may still change").unwrap();
    let large = sealed(&vec![0; usize::try_from(MOST).unwrap() + 1]).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let fds = Descriptors::new();
    let index = fds.attach(&open).unwrap();
    let status = client.give(asking(fds, index.into())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("not sealed"), "{status}");
    let fds = Descriptors::new();
    let index = fds.attach(&large).unwrap();
    let status = client.give(asking(fds, index.into())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("the limit is 16777216"),
        "{status}"
    );
    let fds = Descriptors::new();
    let index = fds.attach(&null).unwrap();
    let status = client.give(asking(fds, index.into())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    served.stop().await;
}

#[test]
fn a_payload_is_sealed_before_it_is_sent() {
    let file = sealed(b"for good").unwrap();
    fdcheck::require_sealed(&file).unwrap();
    assert_eq!(&*file.map().unwrap(), b"for good");
    let fds = Descriptors::new();
    assert!(matches!(fds.take_sealed(0, 1), Err(SealedError::Take(_))));
}

on_both_wires! {
    a_payload_beyond_every_message_goes_both_ways,
    what_is_not_sealed_or_too_large_is_never_mapped,
}
