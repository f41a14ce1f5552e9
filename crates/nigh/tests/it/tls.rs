//! The day the service moves: the same service over TCP and TLS, by changing the address.

use nigh::{Channel, ClientTls, Listener, Peer, Policy, RequestExt as _, ServerTls};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::test_client::TestClient;
use tonic::Code;

use crate::common::{Served, bind, payload};

pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (
            params.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }
}

/// Says which kind of peer called.
async fn kind(
    request: http::Request<tonic::body::Body>,
) -> Result<http::Response<String>, std::convert::Infallible> {
    let kind = match request.peer() {
        Peer::Local(_) => "local",
        Peer::Tls(tls) if tls.certificate().is_some() => "tls with a certificate",
        Peer::Tls(_) => "tls",
        Peer::Remote(_) => "remote",
        other => panic!("a new kind of peer: {other}"),
    };
    let response = http::Response::builder().header("x-kind", kind);
    let response = response
        .header("content-type", "application/grpc")
        .header("grpc-status", "0");
    Ok(response.body(String::new()).unwrap())
}

async fn kind_seen(channel: Channel) -> String {
    let request = http::Request::post("/kind.Of/Peer")
        .body(tonic::body::Body::empty())
        .unwrap();
    let response = tower::ServiceExt::oneshot(channel, request).await.unwrap();
    response.headers()["x-kind"].to_str().unwrap().to_owned()
}

pub(crate) fn tcp() -> (Listener, String) {
    let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let address = listener.address().to_string();
    (listener, address)
}

#[tokio::test]
async fn the_same_service_moves_to_tls_by_changing_the_address() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost");
    let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes()).unwrap();
    let (listener, address) = tcp();
    let port = address.rsplit(':').next().unwrap().to_owned();
    let socket = TempSocket::private();
    let local = bind(&socket, 0o600);
    let served = Served::on(socket, local, |server| {
        server
            .fallback(tower::service_fn(kind))
            .listen_tls(listener, Policy::any(), tls)
    });
    let trust = ClientTls::authority(authority.pem().as_bytes()).unwrap();
    let options = Channel::options().tls(trust);
    let remote = options
        .connect(format!("https://localhost:{port}").as_str())
        .await
        .unwrap();
    let mut client = TestClient::new(remote.clone());
    assert_eq!(
        client.echo(payload("far")).await.unwrap().into_inner().data,
        b"far"
    );
    assert_eq!(kind_seen(remote).await, "tls");
    let near = Channel::connect(served.address()).await.unwrap();
    assert_eq!(kind_seen(near).await, "local");
    served.stop().await;
}

#[tokio::test]
async fn mutual_tls_shows_the_callers_certificate_and_turns_strangers_away() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost");
    let pem = authority.pem();
    let tls = ServerTls::mutual(certificate.as_bytes(), key.as_bytes(), pem.as_bytes()).unwrap();
    let (listener, address) = tcp();
    let https = address.replace("tcp:127.0.0.1", "https://localhost");
    let socket = TempSocket::private();
    let local = bind(&socket, 0o600);
    let served = Served::on(socket, local, |server| {
        server
            .fallback(tower::service_fn(kind))
            .listen_tls(listener, Policy::any(), tls)
    });
    let (certificate, key) = authority.sign("client");
    let mutual = ClientTls::mutual(pem.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap();
    let known = Channel::options()
        .tls(mutual)
        .connect(https.as_str())
        .await
        .unwrap();
    assert_eq!(kind_seen(known).await, "tls with a certificate");
    let bare = ClientTls::authority(pem.as_bytes()).unwrap();
    // TLS 1.3 lets the client finish before the server has looked, so the first call tells.
    let stranger = Channel::options().tls(bare).lazy(https.as_str()).unwrap();
    let status = TestClient::new(stranger)
        .echo(payload(""))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(served.service.runs().started, 0);
    served.stop().await;
}

#[tokio::test]
async fn only_any_admits_a_caller_from_elsewhere() {
    let (listener, address) = tcp();
    let socket = TempSocket::private();
    let local = bind(&socket, 0o600);
    let not_one = !Policy::uid(1);
    let served = Served::on(socket, local, |server| server.listen_for(listener, not_one));
    let channel = Channel::connect(address.as_str()).await.unwrap();
    let status = TestClient::new(channel)
        .echo(payload(""))
        .await
        .unwrap_err();
    assert_eq!(
        status.code(),
        Code::PermissionDenied,
        "not unknown is unknown: {status}"
    );
    served.stop().await;
}

#[tokio::test]
async fn a_wrong_name_or_authority_is_refused_by_the_client() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("elsewhere.example");
    let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes()).unwrap();
    let (listener, address) = tcp();
    let https = address.replace("tcp:127.0.0.1", "https://localhost");
    let socket = TempSocket::private();
    let local = bind(&socket, 0o600);
    let served = Served::on(socket, local, |server| {
        server.listen_tls(listener, Policy::any(), tls)
    });
    let wrong_name = ClientTls::authority(authority.pem().as_bytes()).unwrap();
    let wrong_authority = ClientTls::authority(Authority::new().pem().as_bytes()).unwrap();
    for trust in [wrong_name.clone(), wrong_authority] {
        let error = Channel::options()
            .tls(trust)
            .connect(https.as_str())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("TLS"), "{error}");
    }
    let named = wrong_name.server_name("elsewhere.example").unwrap();
    let channel = Channel::options()
        .tls(named)
        .connect(https.as_str())
        .await
        .unwrap();
    TestClient::new(channel).echo(payload("")).await.unwrap();
    served.stop().await;
}
