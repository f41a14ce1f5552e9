//! What is wrong with a server is said before it serves anybody.

use nigh::{Listener, Policy, Server, ServerError};
use nigh_testkit::TempSocket;
use nigh_testkit::service::TestService;

use crate::common::bind;

async fn start(server: Server) -> ServerError {
    server.run(std::future::ready(())).await.unwrap_err()
}

#[tokio::test]
async fn a_guard_that_guards_nothing_is_an_error() {
    let socket = TempSocket::private();
    let server = Server::new()
        .service(TestService::default().server())
        .guard("/nigh.test.v1.Tset/Echo", Policy::none())
        .listen(bind(&socket, 0o600));
    let error = start(server).await;
    assert!(error.to_string().contains("Tset"), "{error}");
    assert!(error.hint().is_some());
}

async fn guarded(path: &str, change: impl FnOnce(Server) -> Server) -> ServerError {
    let socket = TempSocket::private();
    let server = Server::new().service(TestService::default().server());
    let server = change(server.guard(path, Policy::none()));
    start(server.listen(bind(&socket, 0o600))).await
}

#[tokio::test]
async fn a_slip_in_a_guards_method_is_an_error_and_not_an_open_method() {
    let routes = || axum::Router::new();
    for path in [
        "/nigh.test.v1.Test/Echo/",
        "/nigh.test.v1.Test",
        "nigh.test.v1.Test/Echo",
    ] {
        let error = guarded(path, |server| server.fallback(routes())).await;
        assert!(matches!(error, ServerError::GuardForm { .. }), "{error}");
        assert!(error.hint().is_some());
    }
    let descriptors = nigh_testkit::service::FILE_DESCRIPTOR_SET;
    let known = |server: Server| server.reflection(descriptors).fallback(routes());
    let error = guarded("/nigh.test.v1.Test/Ecko", known).await;
    let ServerError::GuardsNoMethod { methods, .. } = &error else {
        panic!("{error}");
    };
    assert!(methods.contains(&"Echo".to_owned()), "{methods:?}");
    assert!(error.to_string().contains("Echo, Fail"), "{error}");
    let error = guarded("/grpc.health.v1.Health/Chekc", Server::health).await;
    assert!(
        matches!(error, ServerError::GuardsNoMethod { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_guard_of_a_method_that_exists_is_no_error() {
    let descriptors = nigh_testkit::service::FILE_DESCRIPTOR_SET;
    let socket = TempSocket::private();
    let server = Server::new()
        .service(TestService::default().server())
        .reflection(descriptors)
        .guard("/nigh.test.v1.Test/Echo", Policy::none())
        .guard("/nigh.test.v1.Test/*", Policy::none())
        .guard("/grpc.reflection.v1.ServerReflection/*", Policy::none());
    let server = server.listen(bind(&socket, 0o600));
    server.run(std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn two_services_of_one_name_are_an_error() {
    let socket = TempSocket::private();
    let test = TestService::default();
    let server = Server::new().service(test.server()).service(test.server());
    let error = start(server.listen(bind(&socket, 0o600))).await;
    assert!(matches!(
        error,
        ServerError::DuplicateService {
            name: "nigh.test.v1.Test"
        }
    ));
}

#[tokio::test]
async fn a_local_service_is_not_served_beside_a_remote_listener() {
    let tcp = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let server = Server::new().local_service(TestService::default().server());
    let error = start(server.listen(tcp)).await;
    assert!(matches!(error, ServerError::NotLocal { .. }), "{error}");
}

#[tokio::test]
async fn a_server_without_listeners_is_an_error() {
    let error = start(Server::new().service(TestService::default().server())).await;
    assert!(matches!(error, ServerError::Front(_)), "{error}");
}

#[tokio::test]
async fn broken_descriptors_are_an_error() {
    let socket = TempSocket::private();
    let server = Server::new()
        .reflection(b"\xff\xff\xff")
        .listen(bind(&socket, 0o600));
    assert!(matches!(start(server).await, ServerError::Reflection(_)));
}
