//! Typed services, and the agent's credential as DAOS verified it.

#[path = "../../examples/agent/credential.rs"]
mod credential;

use nigh_drpc::wire::Status;
use nigh_drpc::{
    BlockingClient, CallError, Client, ClientOptions, Failure, Modules, Server, Typed, listener,
};
use nigh_socket::{Address, LocalPeer, Policy};
use nigh_testkit::TempSocket;
use prost::Message as _;

use crate::bytes_of::hex;
use crate::harness::blocking;
use credential::{GetCredReq, GetCredResp, Sys, credential};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HelloResponse {
    #[prost(string, tag = "1")]
    greeting: String,
}

nigh_drpc::service! {
    /// Greets, and says who asks.
    trait Greeter, client GreeterClient, blocking BlockingGreeter, module 0 "TEST" {
        /// Says hello.
        greeting = 0 (Hello) -> HelloResponse;
        /// Credentials of the caller.
        whoami = 1 (GetCredReq) -> GetCredResp;
    }
}

struct Polite;

impl Greeter for Polite {
    async fn greeting(&self, call: Typed<Hello>) -> Result<HelloResponse, Failure> {
        let greeting = format!("Hello {}", call.message.name);
        Ok(HelloResponse { greeting })
    }

    async fn whoami(&self, call: Typed<GetCredReq>) -> Result<GetCredResp, Failure> {
        let peer = call.request.peer.as_local();
        let sys = peer.and_then(|peer| Sys::of(peer, "node01"));
        let sys = sys.ok_or_else(|| Failure::new("nobody"))?;
        Ok(credential(&sys))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_methods_is_a_server_and_two_clients() {
    let place = TempSocket::private();
    let mut modules = Modules::new();
    modules.register(Polite.into_module()).unwrap();
    let bound = listener().bind(place.path()).unwrap();
    tokio::spawn(Server::new(modules).policy(Policy::any()).serve(bound));
    let address = Address::Path(place.path().to_owned());
    let plain = Client::connect(address.clone(), ClientOptions::default())
        .await
        .unwrap();
    let friend = Hello {
        name: "Friend".into(),
    };
    let client = GreeterClient::new(plain.clone());
    assert_eq!(
        client.greeting(&friend).await.unwrap().greeting,
        "Hello Friend"
    );
    let error = plain.call(0, 0, vec![0xff]).await.unwrap_err();
    let expected = Status::FailedUnmarshalPayload;
    assert!(
        matches!(error, CallError::Status { status, .. } if status == expected),
        "{error}"
    );
    let credential = client
        .whoami(&GetCredReq {})
        .await
        .unwrap()
        .credential
        .unwrap();
    let sys = Sys::decode(&*credential.token.unwrap().data).unwrap();
    let (own, _other) = nigh_socket::UnixSeqpacket::pair().unwrap();
    assert_eq!(Some(sys), Sys::of(&LocalPeer::of(&own).unwrap(), "node01"));
    blocking(move || {
        let client = BlockingClient::connect(address, ClientOptions::default()).unwrap();
        let mut client = BlockingGreeter::new(client);
        assert_eq!(client.greeting(&friend).unwrap().greeting, "Hello Friend");
    })
    .await;
}

/// What DAOS's own verification accepted.
#[test]
fn the_agents_credential_is_the_golden_one() {
    let sys = Sys {
        stamp: 0,
        machine: "node01".into(),
        user: "alice@".into(),
        group: "users@".into(),
        groups: vec!["users@".into(), "wheel@".into()],
        label: String::new(),
    };
    let golden = hex(include_str!("../golden/credential.hex"));
    assert_eq!(golden.len(), 125);
    assert_eq!(credential(&sys).encode_to_vec(), golden);
    let back = GetCredResp::decode(&*golden).unwrap();
    assert_eq!(back, credential(&sys));
}
