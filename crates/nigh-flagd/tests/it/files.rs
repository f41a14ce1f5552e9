//! Files that are replaced, half written, emptied, removed and rolled back.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use nigh_flagd::eval::Fractional;
use nigh_flagd::source::Hub;
use nigh_flagd::store::{Selector, View};
use serde_json::json;

use crate::common::{Flags, flag, hub, source};

const LIMIT: Duration = Duration::from_secs(20);

fn value(view: &View, key: &str) -> Option<i64> {
    let served = view.find(key, &Selector::All)?;
    served.flag.variants.get("v")?.1.value.as_i64()
}

/// Waits until flag `a` has this value.
async fn until(hub: &Hub, expected: Option<i64>) {
    let mut views = hub.store.subscribe();
    let wanted = views.wait_for(|view| value(view, "a") == expected);
    let found = tokio::time::timeout(LIMIT, wanted).await;
    assert!(found.is_ok(), "{:?}", value(&hub.store.view(), "a"));
}

/// Waits until one more reading has failed.
async fn until_bad(hub: &Hub, more_than: u64) {
    let failed = async {
        while hub.counts.bad.load(Ordering::Relaxed) <= more_than {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, failed).await.unwrap();
}

fn text(number: i64) -> String {
    json!({"flags": {"a": flag(number)}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_file_the_last_good_flags_stay() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let (hub, _following) = hub(&[source(&flags.path)], Fractional::V2).await;
    assert_eq!(value(&hub.store.view(), "a"), Some(1));
    flags.replace(&json!({"a": flag(2)}));
    until(&hub, Some(2)).await;
    std::fs::write(&flags.path, text(3)).unwrap();
    until(&hub, Some(3)).await;
    for (round, damage) in (0_u64..).zip(["", "{\"flags\": {\"a\"", "{\"flags\": 1}"]) {
        std::fs::write(&flags.path, damage).unwrap();
        until_bad(&hub, round).await;
        assert_eq!(value(&hub.store.view(), "a"), Some(3), "{damage:?}");
    }
    std::fs::remove_file(&flags.path).unwrap();
    until_bad(&hub, 3).await;
    assert_eq!(value(&hub.store.view(), "a"), Some(3));
    std::fs::write(&flags.path, text(4)).unwrap();
    until(&hub, Some(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_to_an_older_file_is_seen() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let (hub, _following) = hub(&[source(&flags.path)], Fractional::V2).await;
    let old = flags.path.with_extension("old");
    std::fs::write(&old, text(7)).unwrap();
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
        .unwrap();
    std::fs::rename(&old, &flags.path).unwrap();
    until(&hub, Some(7)).await;
}

/// What kubelet does with a ConfigMap: `flags.json` -> `..data/flags.json`, `..data` -> a directory.
fn swap(mount: &Path, name: &str, number: i64) {
    let directory = mount.join(name);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("flags.json"), text(number)).unwrap();
    std::os::unix::fs::symlink(name, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_is_followed() {
    let mount = tempfile::tempdir().unwrap();
    swap(mount.path(), "..one", 1);
    let path = mount.path().join("flags.json");
    std::os::unix::fs::symlink("..data/flags.json", &path).unwrap();
    let (hub, _following) = hub(&[source(&path)], Fractional::V2).await;
    assert_eq!(value(&hub.store.view(), "a"), Some(1));
    for (number, name) in [(2, "..two"), (3, "..three")] {
        swap(mount.path(), name, number);
        until(&hub, Some(number)).await;
    }
    std::fs::remove_dir_all(mount.path().join("..one")).unwrap();
    swap(mount.path(), "..four", 4);
    until(&hub, Some(4)).await;
    assert_eq!(hub.counts.bad.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_written_in_pieces_is_read_once() {
    let flags = Flags::new(&json!({"a": flag(1)}));
    let (hub, _following) = hub(&[source(&flags.path)], Fractional::V2).await;
    let good = hub.counts.good.load(Ordering::Relaxed);
    let text = text(5);
    let (first, second) = text.split_at(text.len() / 2);
    let mut file = std::fs::File::create(&flags.path).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    until(&hub, Some(5)).await;
    assert_eq!(hub.counts.bad.load(Ordering::Relaxed), 0);
    assert_eq!(hub.counts.good.load(Ordering::Relaxed), good + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_there_yet_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later/flags.yaml");
    let (hub, _following) = hub(&[source(&path)], Fractional::V2).await;
    assert_eq!(
        hub.store.view().waiting(),
        [Arc::from(path.to_str().unwrap())]
    );
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let text = "flags:\n  a: {state: ENABLED, variants: {v: 9}, defaultVariant: v}\n";
    std::fs::write(&path, text).unwrap();
    until(&hub, Some(9)).await;
    assert!(hub.store.view().waiting().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_flags_are_loaded_and_kept_when_they_are_the_same() {
    let targeting = json!({"if": [{"==": [{"var": "email"}, "x"]}, "v", null]});
    let many = |value: i64| {
        let flags = (0..10_000).map(|number| {
            let mut flag = flag(if number == 5_000 { value } else { 1 });
            flag["targeting"] = targeting.clone();
            (format!("flag-{number}"), flag)
        });
        serde_json::Value::Object(flags.collect())
    };
    let flags = Flags::new(&many(1));
    let started = std::time::Instant::now();
    let (hub, _following) = hub(&[source(&flags.path)], Fractional::V2).await;
    println!("10000 flags loaded in {:?}", started.elapsed());
    assert_eq!(hub.store.view().len(), 10_000);
    let mut views = hub.store.subscribe();
    let before = hub.store.view();
    flags.replace(&many(2));
    tokio::time::timeout(LIMIT, views.changed())
        .await
        .unwrap()
        .unwrap();
    let after = hub.store.view();
    let changes = after.changes_since(&before, &Selector::All);
    assert_eq!(changes.keys().collect::<Vec<_>>(), ["flag-5000"]);
}
