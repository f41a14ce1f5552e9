//! Counts for Prometheus. Labels come from flags that exist, never from what callers write.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nigh::Counters;

use super::Flagd;

/// Flags whose answers are counted apart; those beyond are counted together.
const FLAGS_COUNTED_MAX: usize = 10_000;

/// Answers of one flag by variant and reason.
type Kinds = BTreeMap<(Option<String>, &'static str), u64>;

/// What has been answered.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By flag.
    impressions: Mutex<BTreeMap<String, Kinds>>,
    failures: Mutex<BTreeMap<&'static str, u64>>,
    streams: Arc<AtomicU64>,
    server: OnceLock<Arc<Counters>>,
}

/// Counts a stream for as long as it lives.
#[derive(Debug)]
pub(super) struct StreamGauge(Arc<AtomicU64>);

impl Drop for StreamGauge {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(super) fn watch(&self, counters: Arc<Counters>) {
        // A second server of the same flags is not counted.
        let _ = self.server.set(counters);
    }

    pub(super) fn stream(&self) -> StreamGauge {
        self.streams.fetch_add(1, Ordering::Relaxed);
        StreamGauge(Arc::clone(&self.streams))
    }

    pub(super) fn resolved(&self, key: &str, variant: Option<&str>, reason: &'static str) {
        let mut flags = self
            .impressions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = if flags.len() < FLAGS_COUNTED_MAX || flags.contains_key(key) {
            key
        } else {
            ""
        };
        // Most answers are not the first of their kind: no allocation for the flag's name then.
        if !flags.contains_key(key) {
            flags.insert(key.to_owned(), BTreeMap::new());
        }
        if let Some(kinds) = flags.get_mut(key) {
            *kinds
                .entry((variant.map(str::to_owned), reason))
                .or_default() += 1;
        }
    }

    pub(super) fn failed(&self, code: &'static str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.entry(code).or_default() += 1;
    }
}

impl Flagd {
    /// All counts in Prometheus's text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let metrics = &self.inner.metrics;
        let mut text = String::new();
        impressions(metrics, &mut text);
        let counts = &self.inner.hub.counts;
        let view = self.inner.hub.store.view();
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        };
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let flags = u64::try_from(view.len()).unwrap_or(u64::MAX);
        one("feature_flag_flagd_flags", "gauge", "Flags served.", flags);
        one(
            "feature_flag_flagd_streams",
            "gauge",
            "Open streams.",
            load(&metrics.streams),
        );
        one(
            "feature_flag_flagd_sync_reads_total",
            "counter",
            "Sources read.",
            load(&counts.good),
        );
        one(
            "feature_flag_flagd_sync_failures_total",
            "counter",
            "Sources that could not be read; the last good flags stayed.",
            load(&counts.bad),
        );
        if let Some(server) = metrics.server.get() {
            let server = server.read();
            for (name, help, value) in [
                (
                    "nigh_calls_total",
                    "Calls handed to a handler.",
                    server.calls_handled,
                ),
                (
                    "nigh_connections_total",
                    "Connections admitted.",
                    server.connections_admitted,
                ),
                (
                    "nigh_connections_refused_by_policy_total",
                    "Connections refused by policy.",
                    server.connections_refused_by_policy,
                ),
                (
                    "nigh_connections_refused_by_quota_total",
                    "Connections refused by quota.",
                    server.connections_refused_by_quota,
                ),
                (
                    "nigh_calls_refused_by_guard_total",
                    "Calls refused by a guard.",
                    server.calls_refused_by_guard,
                ),
                (
                    "nigh_handler_panics_total",
                    "Calls whose handler panicked.",
                    server.handler_panics,
                ),
            ] {
                one(name, "counter", help, value);
            }
        }
        text
    }
}

fn impressions(metrics: &Metrics, text: &mut String) {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    let name = "feature_flag_flagd_impression_total";
    let _ = writeln!(
        text,
        "# HELP {name} Answers by flag, variant and reason.\n# TYPE {name} counter"
    );
    let flags = metrics
        .impressions
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for (key, kinds) in flags.iter() {
        for ((variant, reason), count) in kinds {
            *reasons.entry(reason).or_default() += count;
            let (key, variant) = (label(key), label(variant.as_deref().unwrap_or_default()));
            let _ = writeln!(
                text,
                "{name}{{feature_flag_key=\"{key}\",feature_flag_variant=\"{variant}\",feature_flag_reason=\"{reason}\"}} {count}"
            );
        }
    }
    let name = "feature_flag_flagd_result_reason_total";
    let _ = writeln!(
        text,
        "# HELP {name} Answers by reason; failures by error code.\n# TYPE {name} counter"
    );
    for (reason, count) in reasons {
        let _ = writeln!(text, "{name}{{feature_flag_reason=\"{reason}\"}} {count}");
    }
    let failures = metrics
        .failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for (code, count) in failures.iter() {
        let _ = writeln!(
            text,
            "{name}{{feature_flag_reason=\"ERROR\",error_type=\"{code}\"}} {count}"
        );
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
