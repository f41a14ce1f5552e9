//! What nigh-openfeature's options do: how long it waits, for whom, and what it says meanwhile.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use nigh_openfeature::{Event, Options, Provider, ProviderError};
use nigh_testkit::TempSocket;
use open_feature::EvaluationContext;
use open_feature::provider::{FeatureProvider as _, ProviderStatus};
use serde_json::json;

use crate::common::{Daemon, Flags, Running, flag};
use crate::provider::event;

fn options(socket: &TempSocket) -> Options {
    Options::at(&socket.address()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_grows_old_is_replaced_and_no_change_is_missed() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let daemon = Daemon::of(&flags.path).await;
    let mut options = options(&daemon.socket);
    options.deadline = Duration::from_secs(30);
    options.stream_deadline = Duration::from_millis(100);
    let mut provider = Provider::new(options).unwrap();
    let mut events = provider.events();
    let context = EvaluationContext::default();
    provider.initialize(&context).await;
    assert_eq!(event(&mut events).await, Event::Ready);
    let unknown = Event::ConfigurationChanged { flags: Vec::new() };
    for _ in 0..3 {
        assert_eq!(event(&mut events).await, unknown);
        assert_eq!(provider.status(), ProviderStatus::Ready);
    }
    flags.replace(&json!({"a": flag(2)}));
    // By the stream, or by the next one where none was there to tell.
    while provider
        .resolve_int_value("a", &context)
        .await
        .unwrap()
        .value
        != 2
    {
        let Event::ConfigurationChanged { .. } = event(&mut events).await else {
            panic!("another event");
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_gone_for_longer_than_the_grace_is_an_error() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let source = format!("file:{}", flags.path.display());
    let socket = TempSocket::private();
    let daemon = Running::serving(socket.path(), &["-f", &source]);
    let mut options = options(&socket);
    options.deadline = Duration::from_secs(30);
    options.retry_grace = Duration::from_millis(50);
    options.retry_backoff = Duration::from_millis(10);
    options.retry_backoff_max = Duration::from_millis(20);
    let mut provider = Provider::new(options).unwrap();
    let mut events = provider.events();
    let context = EvaluationContext::default();
    provider.initialize(&context).await;
    assert_eq!(event(&mut events).await, Event::Ready);
    assert!(provider.resolve_int_value("a", &context).await.is_ok());
    daemon.kill();
    assert_eq!(event(&mut events).await, Event::Stale);
    let Event::Error {
        fatal: false,
        message,
    } = event(&mut events).await
    else {
        panic!("another event");
    };
    assert!(!message.is_empty());
    assert_eq!(provider.status(), ProviderStatus::Error);
    let gone = provider.resolve_int_value("a", &context).await;
    assert!(gone.is_err(), "what was kept is too old");
    let _daemon = Running::serving(socket.path(), &["-f", &source]);
    assert_eq!(event(&mut events).await, Event::Ready);
    assert!(provider.resolve_int_value("a", &context).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_says_nothing_is_waited_for_no_longer_than_the_deadline() {
    let socket = TempSocket::private();
    let _silent = UnixListener::bind(socket.path()).unwrap();
    let mut options = options(&socket);
    options.deadline = Duration::from_millis(50);
    let mut provider = Provider::new(options).unwrap();
    let context = EvaluationContext::default();
    let limit = Duration::from_secs(30);
    let begun = tokio::time::timeout(limit, provider.initialize(&context)).await;
    assert!(begun.is_ok());
    assert_eq!(provider.status(), ProviderStatus::Error);
    let answer = provider.resolve_int_value("a", &context);
    let answer = tokio::time::timeout(limit, answer).await.unwrap();
    assert!(answer.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_every_answer_is_the_daemons() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let daemon = Daemon::of(&flags.path).await;
    let mut options = options(&daemon.socket);
    options.deadline = Duration::from_secs(30);
    options.cache_entries_max = 0;
    let mut provider = Provider::new(options).unwrap();
    let context = EvaluationContext::default();
    provider.initialize(&context).await;
    for _ in 0..2 {
        let answer = provider.resolve_int_value("a", &context).await.unwrap();
        let reason = Some(open_feature::EvaluationReason::Static);
        assert_eq!(answer.reason, reason, "it is not kept");
    }
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_is_tried() {
    let socket = TempSocket::private();
    let mut with_selector = options(&socket);
    with_selector.selector = "flagSetId=a\nb".into();
    let error = Provider::new(with_selector).unwrap_err();
    assert!(matches!(error, ProviderError::Selector { .. }), "{error}");
    assert!(error.hint().is_some());
}
