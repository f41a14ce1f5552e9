//! nigh-openfeature with the SDK: values, reasons, errors, what is kept and for how long.

use std::time::Duration;

use nigh_openfeature::{Event, Events, Options, Provider};
use nigh_testkit::TempSocket;
use open_feature::provider::{FeatureProvider as _, ProviderStatus};
use open_feature::{
    EvaluationContext, EvaluationErrorCode, EvaluationReason, FlagMetadataValue, OpenFeature,
    StructValue, Value,
};
use serde_json::json;

use crate::common::{Daemon, Flags, Running, flag, source};

const LIMIT: Duration = Duration::from_secs(30);

fn options(socket: &TempSocket) -> Options {
    let mut options = Options::at(&socket.address()).unwrap();
    options.deadline = LIMIT;
    options
}

pub(crate) async fn event(events: &mut Events) -> Event {
    let event = tokio::time::timeout(LIMIT, events.next()).await;
    event.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_gets_values_with_reasons_and_metadata() {
    let rule = json!({"if": [{"==": [{"var": "tier"}, "gold"]}, "on", "off"]});
    let mut owned = flag("hi");
    owned["metadata"] = json!({"owner": "me", "level": 3});
    let flags = Flags::new(&json!({
        "text": owned, "int": flag(7), "pi": flag(3.25),
        "object": flag(json!({"a": [1, {"b": null, "c": "d"}]})),
        "tier": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "targeting": rule},
        "bare": {"state": "ENABLED", "variants": {"v": true}},
        "off": {"state": "DISABLED", "variants": {"v": true}, "defaultVariant": "v"},
    }));
    let daemon = Daemon::of(&flags.path).await;
    let provider = Provider::new(options(&daemon.socket)).unwrap();
    let mut events = provider.events();
    let mut api = OpenFeature::default();
    api.set_provider(provider).await;
    assert_eq!(event(&mut events).await, Event::Ready);
    let client = api.create_client();
    for reason in [EvaluationReason::Static, EvaluationReason::Cached] {
        let details = client.get_string_details("text", None, None).await.unwrap();
        assert_eq!(
            (details.value.as_str(), details.reason),
            ("hi", Some(reason))
        );
        assert_eq!(details.variant.as_deref(), Some("v"));
        let metadata = details.flag_metadata.values;
        assert_eq!(metadata["owner"], FlagMetadataValue::String("me".into()));
        assert_eq!(metadata["level"], FlagMetadataValue::Int(3));
    }
    assert_eq!(client.get_int_value("int", None, None).await, Ok(7));
    assert_eq!(client.get_float_value("pi", None, None).await, Ok(3.25));
    let object = client
        .get_struct_details::<StructValue>("object", None, None)
        .await;
    let Value::Array(items) = &object.unwrap().value.fields["a"] else {
        panic!("no array");
    };
    assert_eq!(items[0], Value::Float(1.0));
    for (tier, expected) in [("gold", true), ("tin", false), ("gold", true)] {
        let context = EvaluationContext::default().with_custom_field("tier", tier);
        let details = client
            .get_bool_details("tier", Some(&context), None)
            .await
            .unwrap();
        assert_eq!(details.value, expected);
        assert_eq!(
            details.reason,
            Some(EvaluationReason::TargetingMatch),
            "it is never kept"
        );
    }
    for key in ["bare", "off", "gone"] {
        let error = client.get_bool_value(key, None, None).await.unwrap_err();
        assert_eq!(error.code, EvaluationErrorCode::FlagNotFound, "{key}");
    }
    // Asked as another type, what is kept is not the answer.
    let error = client.get_bool_value("text", None, None).await.unwrap_err();
    assert_eq!(error.code, EvaluationErrorCode::TypeMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_dropped_when_it_changes_and_only_then() {
    let flags = Flags::new(&json!({"text": flag("hi"), "int": flag(7)}));
    let daemon = Daemon::of(&flags.path).await;
    let mut provider = Provider::new(options(&daemon.socket)).unwrap();
    let mut events = provider.events();
    let context = EvaluationContext::default();
    provider.initialize(&context).await;
    assert_eq!(event(&mut events).await, Event::Ready);
    for reason in [EvaluationReason::Static, EvaluationReason::Cached] {
        let text = provider.resolve_string_value("text", &context).await;
        assert_eq!(text.unwrap().reason, Some(reason.clone()));
        let int = provider.resolve_int_value("int", &context).await;
        assert_eq!(int.unwrap().reason, Some(reason));
    }
    flags.replace(&json!({"text": flag("ho"), "int": flag(7)}));
    let flags = vec!["text".to_owned()];
    assert_eq!(
        event(&mut events).await,
        Event::ConfigurationChanged { flags }
    );
    let text = provider
        .resolve_string_value("text", &context)
        .await
        .unwrap();
    assert_eq!(
        (text.value.as_str(), text.reason),
        ("ho", Some(EvaluationReason::Static))
    );
    let int = provider.resolve_int_value("int", &context).await.unwrap();
    assert_eq!(
        int.reason,
        Some(EvaluationReason::Cached),
        "it did not change"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_chooses_what_is_seen_and_heard() {
    let mut in_set = flag(1);
    in_set["metadata"] = json!({"flagSetId": "s"});
    let flags = Flags::new(&json!({"a": flag(1), "s": in_set}));
    let daemon = Daemon::of(&flags.path).await;
    let mut options = options(&daemon.socket);
    options.selector = "flagSetId=s".into();
    let mut provider = Provider::new(options).unwrap();
    let mut events = provider.events();
    provider.initialize(&EvaluationContext::default()).await;
    let context = EvaluationContext::default();
    assert!(provider.resolve_int_value("s", &context).await.is_ok());
    assert!(provider.resolve_int_value("a", &context).await.is_err());
    in_set["variants"] = json!({"v": 2});
    flags.replace(&json!({"a": flag(2), "s": in_set}));
    assert_eq!(event(&mut events).await, Event::Ready);
    let flags = vec!["s".to_owned()];
    assert_eq!(
        event(&mut events).await,
        Event::ConfigurationChanged { flags }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_finds_a_daemon_again_that_was_killed() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let source = format!("file:{}", flags.path.display());
    let socket = TempSocket::private();
    let daemon = Running::serving(socket.path(), &["-f", &source]);
    let mut provider = Provider::new(options(&socket)).unwrap();
    let mut events = provider.events();
    let context = EvaluationContext::default();
    provider.initialize(&context).await;
    assert_eq!(event(&mut events).await, Event::Ready);
    assert_eq!(
        provider
            .resolve_int_value("a", &context)
            .await
            .unwrap()
            .value,
        1
    );
    daemon.kill();
    assert_eq!(event(&mut events).await, Event::Stale);
    assert_eq!(provider.status(), ProviderStatus::STALE);
    let kept = provider.resolve_int_value("a", &context).await.unwrap();
    assert_eq!(kept.reason, Some(EvaluationReason::Cached));
    flags.replace(&json!({"a": flag(2)}));
    let _daemon = Running::serving(socket.path(), &["-f", &source]);
    assert_eq!(event(&mut events).await, Event::Ready);
    let fresh = provider.resolve_int_value("a", &context).await.unwrap();
    assert_eq!(
        (fresh.value, fresh.reason),
        (2, Some(EvaluationReason::Static))
    );
    drop(provider);
    assert_eq!(
        tokio::time::timeout(LIMIT, events.next()).await.unwrap(),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_comes_late_is_waited_for() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let socket = TempSocket::private();
    let mut options = options(&socket);
    options.deadline = Duration::from_millis(50);
    let mut provider = Provider::new(options).unwrap();
    let mut events = provider.events();
    let context = EvaluationContext::default();
    provider.initialize(&context).await;
    assert_eq!(provider.status(), ProviderStatus::Error);
    let Event::Error { fatal: false, .. } = event(&mut events).await else {
        panic!("another event");
    };
    assert!(provider.resolve_int_value("a", &context).await.is_err());
    let sources = [source(&flags.path)];
    let _daemon = Daemon::at(socket, &sources).await;
    assert_eq!(event(&mut events).await, Event::Ready);
    assert_eq!(provider.status(), ProviderStatus::Ready);
}
