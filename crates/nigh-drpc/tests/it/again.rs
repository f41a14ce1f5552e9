//! Clients and a server that leaves, scripted: what was not sent is sent again, what was sent never is.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::net::Shutdown;
use std::time::Duration;

use bytes::Bytes;
use nigh_drpc::wire::{Assembler, Call, Features, Response, Status, Violation};
use nigh_drpc::{BlockingClient, CallError, Client, ClientOptions, TransportError, listener};
use nigh_socket::{Acceptor, Address, Policy, Received, UnixSeqpacket};
use nigh_testkit::TempSocket;
use tokio::task::JoinHandle;

use crate::bytes_of::{body, packets};
use crate::harness::{ECHO, MODULE};

/// A server by hand.
struct ByHand {
    place: TempSocket,
    acceptor: Acceptor,
}

impl ByHand {
    fn new() -> Self {
        let place = TempSocket::private();
        let acceptor = Acceptor::new(listener().bind(place.path()).unwrap()).unwrap();
        Self { place, acceptor }
    }

    fn address(&self) -> Address {
        Address::Path(self.place.path().to_owned())
    }

    async fn accept(&mut self) -> UnixSeqpacket {
        let incoming = self.acceptor.accept().await.unwrap();
        let (transport, ..) = incoming.admit(&Policy::any()).unwrap().into_parts();
        transport.into_packet().unwrap()
    }

    /// A call of it by a client of either kind.
    fn called_by(
        &self,
        is_blocking: bool,
        options: ClientOptions,
        body: Bytes,
    ) -> JoinHandle<Result<Bytes, CallError>> {
        let address = self.address();
        match is_blocking {
            false => tokio::spawn(async move {
                let client = Client::lazy(address, options);
                client.call(MODULE, ECHO, body).await
            }),
            true => tokio::task::spawn_blocking(move || {
                let mut client = BlockingClient::lazy(address, options);
                client.call(MODULE, ECHO, body)
            }),
        }
    }
}

/// The next call; `None` at the end.
async fn next(socket: &UnixSeqpacket) -> Option<Call> {
    let mut assembler = Assembler::new(64 << 20);
    let mut buffer = vec![0; 131_072];
    loop {
        let Received::Packet(packet) = socket.recv(&mut buffer).await.unwrap() else {
            return None;
        };
        if let Some(message) = assembler.push(&buffer[..packet.length]).unwrap() {
            return Some(Call::decode(&message).unwrap());
        }
    }
}

async fn answer(socket: &UnixSeqpacket, call: &Call, grants: bool) {
    let mut response = Response::new(call.sequence, Status::Success);
    response.body = call.body.slice(..call.body.len().min(9));
    if grants {
        response.extensions.features = Features::PIPELINING;
        response.extensions.window = 8;
    }
    for packet in packets(&response.encode()) {
        socket.send(&[IoSlice::new(&packet)], &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_was_refused_is_made_again_and_one_that_was_sent_is_not() {
    let mut server = ByHand::new();
    let client = Client::lazy(server.address(), ClientOptions::default());
    let call = |text: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.call(MODULE, ECHO, text).await.unwrap() })
    };
    let first = call("first");
    let old = server.accept().await;
    let begun = next(&old).await.unwrap();
    answer(&old, &begun, true).await;
    assert_eq!(first.await.unwrap(), "first");
    // This one is there before the server leaves, and is answered after the next one has been made elsewhere.
    let early = call("early");
    let sent = next(&old).await.unwrap();
    old.shutdown(Shutdown::Read).unwrap();
    let late = call("late");
    let new = server.accept().await;
    let again = next(&new).await.unwrap();
    assert_eq!((again.sequence, &*again.body), (1, &b"late"[..]));
    answer(&new, &again, true).await;
    assert_eq!(late.await.unwrap(), "late");
    assert!(next(&old).await.is_none());
    answer(&old, &sent, false).await;
    assert_eq!(early.await.unwrap(), "early");
    drop(old);
    let last = call("last");
    let on = next(&new).await.unwrap();
    assert_eq!(on.sequence, 2);
    answer(&new, &on, false).await;
    assert_eq!(last.await.unwrap(), "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_broke_off_is_sent_again_from_its_beginning() {
    for is_blocking in [false, true] {
        let mut server = ByHand::new();
        let large = body(1 << 20);
        let calling = server.called_by(is_blocking, ClientOptions::default(), large.clone());
        let old = server.accept().await;
        let mut buffer = vec![0; 131_072];
        // One chunk of nine; more than three never fit.
        assert!(matches!(
            old.recv(&mut buffer).await,
            Ok(Received::Packet(_))
        ));
        old.shutdown(Shutdown::Read).unwrap();
        while let Ok(Received::Packet(_)) = old.recv(&mut buffer).await {}
        drop(old);
        let new = server.accept().await;
        let again = next(&new).await.unwrap();
        assert!(again.body == large);
        answer(&new, &again, false).await;
        assert_eq!(calling.await.unwrap().unwrap(), large.slice(..9));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_to_half_a_message_is_heard() {
    for is_blocking in [false, true] {
        let mut server = ByHand::new();
        let calling = server.called_by(is_blocking, ClientOptions::default(), body(1 << 20));
        // An old server reads the first packet, says that it cannot, and leaves.
        let old = server.accept().await;
        let mut buffer = vec![0; 131_072];
        assert!(matches!(
            old.recv(&mut buffer).await,
            Ok(Received::Packet(_))
        ));
        old.shutdown(Shutdown::Read).unwrap();
        let refusal = Response::unreadable().encode();
        old.send(&[IoSlice::new(&refusal)], &[]).await.unwrap();
        while let Ok(Received::Packet(_)) = old.recv(&mut buffer).await {}
        drop(old);
        let error = calling.await.unwrap().unwrap_err();
        let expected = matches!(error, CallError::PeerMisbehaved(Violation::LegacyPeer));
        assert!(expected, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_over_and_over_is_not_asked_for_ever() {
    for is_blocking in [false, true] {
        let mut server = ByHand::new();
        let options = ClientOptions::default().pauses(Duration::ZERO, Duration::ZERO);
        let calling = server.called_by(is_blocking, options, body(1 << 20));
        for _ in 0..6 {
            let old = server.accept().await;
            old.shutdown(Shutdown::Read).unwrap();
            let mut buffer = vec![0; 131_072];
            while let Ok(Received::Packet(_)) = old.recv(&mut buffer).await {}
        }
        let error = calling.await.unwrap().unwrap_err();
        let CallError::Transport(reason) = &error else {
            panic!("{error:?}");
        };
        assert!(
            matches!(**reason, TransportError::Unsent { tries: 6 }),
            "{error:?}"
        );
        assert!(error.hint().is_some());
    }
}
