//! Sources on other servers: web servers with ETag, and servers of flagd.sync.v1, this daemon among them.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{AUTHORIZATION, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use nigh::{Listener, Policy, Server, ServerTls};
use nigh_flagd::eval::{Evaluator, Fractional, Integers};
use nigh_flagd::service::proto::evaluation::v2::ResolveIntRequest;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_flagd::service::{Flagd, Options};
use nigh_flagd::source::{Address as Source, Hub, Sources};
use nigh_flagd::store::Selector;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::body::Body;

use crate::common::{Daemon, Flags, flag, hub, source};

const LIMIT: Duration = Duration::from_secs(30);

fn of(config: Value) -> Source {
    Source::of(&serde_json::from_value(config).unwrap()).unwrap()
}

fn value(hub: &Hub, key: &str) -> Option<i64> {
    let view = hub.store.view();
    let served = view.find(key, &Selector::All)?;
    served.flag.variants.get("v")?.1.value.as_i64()
}

/// Waits until flag `key` has this value.
async fn until(hub: &Hub, key: &str, expected: Option<i64>) {
    let mut views = hub.store.subscribe();
    let wanted = views.wait_for(|_| value(hub, key) == expected);
    let found = tokio::time::timeout(LIMIT, wanted).await;
    assert!(found.is_ok(), "{:?}", value(hub, key));
}

/// A server of documents: what it is to say, and what it was asked.
#[derive(Clone, Default)]
struct Web {
    says: Arc<Mutex<(u16, HeaderMap, String)>>,
    asked: Arc<Mutex<Vec<HeaderMap>>>,
    told: Arc<tokio::sync::Notify>,
}

impl Web {
    fn say(&self, status: u16, headers: &[(http::HeaderName, &str)], text: &str) {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.parse().unwrap()));
        *self.says.lock().unwrap() = (status, headers.collect(), text.to_owned());
    }

    fn flags(&self, tag: &str, number: i64) {
        let text = json!({"flags": {"a": flag(number)}}).to_string();
        self.say(200, &[(ETAG, tag)], &text);
    }

    async fn answer(
        self,
        request: Request<Body>,
    ) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
        let (status, headers, text) = self.says.lock().unwrap().clone();
        let known = request.headers().get(IF_NONE_MATCH);
        let same = known.is_some() && known == headers.get(ETAG);
        let (status, text) = match same {
            true => (304, String::new()),
            false if request.uri().path() == "/moved" => (307, String::new()),
            false => (status, text),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *response.headers_mut() = headers;
        if status == 307 {
            response
                .headers_mut()
                .insert(LOCATION, "flags".parse().unwrap());
        }
        self.asked.lock().unwrap().push(request.headers().clone());
        self.told.notify_waiters();
        Ok(response)
    }

    /// Serves on a port of this machine, with TLS if there is a certificate; returns the port.
    fn serve(&self, tls: Option<ServerTls>) -> (u16, JoinHandle<()>) {
        let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
        let nigh::Address::Tcp { port, .. } = *listener.address() else {
            panic!("{}", listener.address());
        };
        let web = self.clone();
        let service = tower::service_fn(move |request| web.clone().answer(request));
        let server = Server::new().fallback(service);
        let server = match tls {
            Some(tls) => server.listen_tls(listener, Policy::any(), tls),
            None => server.listen_for(listener, Policy::any()),
        };
        let running = tokio::spawn(async move { drop(server.run(std::future::pending()).await) });
        (port, running)
    }

    /// Waits until it was asked `more` times from now on.
    async fn asked(&self, more: usize) {
        for _ in 0..more {
            tokio::time::timeout(LIMIT, self.told.notified())
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_is_asked_for_what_is_new() {
    let web = Web::default();
    web.flags("\"1\"", 1);
    let (port, _server) = web.serve(None);
    let (hub, _following) = hub(
        &[of(
            json!({"uri": format!("http://127.0.0.1:{port}/moved"), "provider": "http",
            "bearerToken": "secret", "interval": 1}),
        )],
        Fractional::V2,
    )
    .await;
    assert_eq!(
        value(&hub, "a"),
        Some(1),
        "it is read before anybody is served"
    );
    web.asked(1).await;
    let good = hub.counts.good.load(Ordering::Relaxed);
    assert_eq!(good, 1, "what has the same tag is not read again");
    {
        let asked = web.asked.lock().unwrap();
        assert_eq!(asked[0].get(IF_NONE_MATCH), None);
        let last = asked.last().unwrap();
        assert_eq!(last[IF_NONE_MATCH], "\"1\"");
        assert_eq!(last[AUTHORIZATION], "Bearer secret");
        assert!(last["accept"].to_str().unwrap().contains("yaml"));
    }
    web.flags("\"2\"", 2);
    until(&hub, "a", Some(2)).await;
    for (status, text) in [(500, "no"), (200, ""), (200, "{\"flags\": 1}"), (204, "")] {
        let bad = hub.counts.bad.load(Ordering::Relaxed);
        web.say(status, &[], text);
        while hub.counts.bad.load(Ordering::Relaxed) == bad {
            web.asked(1).await;
        }
        assert_eq!(value(&hub, "a"), Some(2), "{status} {text:?}");
    }
    web.flags("\"4\"", 4);
    until(&hub, "a", Some(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_that_is_away_is_waited_for() {
    let web = Web::default();
    web.say(
        200,
        &[(http::header::CONTENT_TYPE, "application/yaml")],
        "flags:\n  a: {state: ENABLED, variants: {v: 9}, defaultVariant: v}\n",
    );
    let (port, server) = web.serve(None);
    server.abort();
    // Its port is free once it is gone.
    drop(server.await);
    let uri = format!("http://127.0.0.1:{port}/");
    let source = of(json!({"uri": uri, "provider": "http", "interval": 1}));
    let (hub, _following) = hub(&[source], Fractional::V2).await;
    assert_eq!(hub.store.view().waiting(), [Arc::from(uri)]);
    assert_eq!(hub.counts.bad.load(Ordering::Relaxed), 1);
    let listener = Listener::options().bind(format!("tcp:127.0.0.1:{port}").as_str());
    let service = tower::service_fn(move |request| web.clone().answer(request));
    let server = Server::new().fallback(service);
    let server = server.listen_for(listener.unwrap(), Policy::any());
    let _server = tokio::spawn(server.run(std::future::pending()));
    until(&hub, "a", Some(9)).await;
    assert!(hub.store.view().waiting().is_empty());
}

/// An authority, a certificate for localhost that it signed, and the key of that; PEM.
fn certified() -> [String; 3] {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap().pem();
    [pem, certificate, key.serialize_pem()]
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_proves_who_a_source_is() {
    let [trusted, certificate, key] = certified();
    let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, trusted).unwrap();
    let web = Web::default();
    web.flags("\"1\"", 1);
    let (web_port, _web) = web.serve(Some(tls.clone()));

    let flags = Flags::new(&json!({"b": flag(2)}));
    let (upstream, _reading) = hub(&[source(&flags.path)], Fractional::V2).await;
    let flagd = Flagd::new(upstream, Options::default());
    let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let nigh::Address::Tcp { port, .. } = *listener.address() else {
        panic!("{}", listener.address());
    };
    let server = flagd.serve_on(Server::new());
    let server = server.listen_tls(listener, Policy::any(), tls);
    let _server = tokio::spawn(server.run(std::future::pending()));

    let web = format!("https://localhost:{web_port}/flags");
    let grpc = format!("localhost:{port}");
    let sources = [
        of(json!({"uri": web, "provider": "http", "certPath": authority})),
        of(json!({"uri": grpc, "provider": "grpc", "tls": true, "certPath": authority})),
    ];
    let (trusting, _following) = hub(&sources, Fractional::V2).await;
    assert_eq!(
        (value(&trusting, "a"), value(&trusting, "b")),
        (Some(1), Some(2))
    );

    std::fs::write(&authority, &certified()[0]).unwrap();
    let (doubting, _following) = hub(&sources, Fractional::V2).await;
    assert_eq!(doubting.store.view().waiting().len(), 2);
    assert_eq!(value(&doubting, "a").or(value(&doubting, "b")), None);

    std::fs::write(&authority, "no certificate").unwrap();
    let evaluator = Evaluator::new(Fractional::V2, Integers::Truncate).unwrap();
    let hub = Hub::new(&sources, evaluator);
    let error = Sources::start(&sources, &hub).await.unwrap_err();
    assert!(error.to_string().contains(&web), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_daemon_follows_another_over_its_socket_and_outlives_it() {
    let mut in_set = flag(5);
    in_set["metadata"] = json!({"flagSetId": "s"});
    let flags = Flags::new(&json!({"a": flag(1), "s": in_set}));
    let upstream = Daemon::of(&flags.path).await;
    let address = upstream.socket.address();
    let sources = [
        Source::parse(&address).unwrap(),
        of(
            json!({"uri": address, "provider": "grpc", "selector": "flagSetId=s", "providerID": "test"}),
        ),
    ];
    let (hub, _following) = hub(&sources, Fractional::V2).await;
    assert_eq!((value(&hub, "a"), value(&hub, "s")), (Some(1), Some(5)));
    flags.replace(&json!({"a": flag(2), "s": in_set}));
    until(&hub, "a", Some(2)).await;
    let selected = hub
        .store
        .view()
        .select(&Selector::FlagSet("s".into()))
        .len();
    assert_eq!(selected, 1, "a set keeps its name on the way");

    let bad = hub.counts.bad.load(Ordering::Relaxed);
    let next = Flags::new(&json!({"a": flag(3), "s": in_set}));
    let _again = upstream.restarted(&[source(&next.path)]).await;
    assert!(value(&hub, "a").is_some(), "the last good flags stay");
    until(&hub, "a", Some(3)).await;
    assert!(
        hub.counts.bad.load(Ordering::Relaxed) > bad,
        "its end was told"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_fixes_reaches_evaluations_here_and_further_down() {
    let rule = json!({"if": [{"==": [{"var": "region"}, "north"]}, "on", "off"]});
    let by_region = json!({"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "off", "targeting": rule});
    let flags = Flags::new(&json!({"a": by_region}));
    let chain = |fixed: &'static [(&'static str, &'static str)], sources: Vec<Source>| async move {
        let (hub, following) = hub(&sources, Fractional::V2).await;
        let socket = nigh_testkit::TempSocket::private();
        let mut options = Options::default();
        let fixed = fixed.iter();
        options.context = fixed
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let listener = Listener::options().bind(socket.address().as_str()).unwrap();
        let server = Flagd::new(Arc::clone(&hub), options).serve_on(Server::new());
        let server = tokio::spawn(server.listen(listener).run(std::future::pending()));
        (socket, hub, (following, server))
    };
    let (first, ..) = &chain(
        &[("region", "north"), ("tier", "gold")],
        vec![source(&flags.path)],
    )
    .await;
    let second = chain(
        &[("tier", "local")],
        vec![Source::parse(&first.address()).unwrap()],
    )
    .await;
    let third = chain(&[], vec![Source::parse(&second.0.address()).unwrap()]).await;
    let told: Vec<_> = third.1.store.view().context().to_vec();
    let expected = [("region", "north"), ("tier", "local")];
    assert_eq!(
        told,
        expected.map(|(key, value)| (key.to_owned(), json!(value)))
    );
    for (socket, ..) in [&second, &third] {
        let channel = nigh::Channel::connect(socket.address().as_str())
            .await
            .unwrap();
        let mut client = ServiceClient::new(channel);
        // What the caller says of itself does not win over it.
        let claimed = json!({"region": "south"});
        let request = ResolveIntRequest {
            flag_key: "a".into(),
            context: claimed.as_object().map(nigh_flagd::value::to_struct),
        };
        let answer = client.resolve_int(request).await.unwrap().into_inner();
        assert_eq!(answer.value, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_stream_is_asked() {
    let number = Arc::new(Mutex::new(1));
    let known = Arc::clone(&number);
    let service = tower::service_fn(move |request: Request<Body>| {
        let configuration = json!({"flags": {"a": flag(*known.lock().unwrap())}}).to_string();
        async move {
            let response = Response::builder().header("content-type", "application/grpc");
            let whole = match request.uri().path() {
                "/flagd.sync.v1.FlagSyncService/FetchAllFlags" => {
                    response.body(answer(&configuration))
                }
                _ => response.header("grpc-status", "12").body(Body::empty()),
            };
            Ok::<_, Infallible>(whole.unwrap())
        }
    });
    let socket = nigh_testkit::TempSocket::private();
    let listener = Listener::options().bind(socket.address().as_str()).unwrap();
    let server = Server::new().fallback(service).listen(listener);
    let _server = tokio::spawn(server.run(std::future::pending()));
    let source = of(json!({"uri": socket.address(), "provider": "grpc", "interval": 1}));
    let (hub, _following) = hub(&[source], Fractional::V2).await;
    assert_eq!(value(&hub, "a"), Some(1));
    *number.lock().unwrap() = 2;
    until(&hub, "a", Some(2)).await;
}

/// A gRPC answer of FetchAllFlags, trailers and all.
fn answer(configuration: &str) -> Body {
    use nigh_flagd::service::proto::sync::v1::FetchAllFlagsResponse;
    use prost::Message as _;
    let message = FetchAllFlagsResponse {
        flag_configuration: configuration.to_owned(),
    };
    let message = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message);
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    let frames = [
        Ok::<_, Infallible>(http_body::Frame::data(bytes::Bytes::from(bytes))),
        Ok(http_body::Frame::trailers(trailers)),
    ];
    Body::new(http_body_util::StreamBody::new(tokio_stream::iter(frames)))
}
