//! One call's answer, whatever protocol it came in.

use std::time::{SystemTime, UNIX_EPOCH};

use ::http::{Extensions, HeaderMap};
use nigh::Peer;
use prost_types::Struct;
use serde_json::{Map, Value};

use super::{Flagd, Pin};
use crate::eval::{Attributes, Context, EvalError, Outcome, number};
use crate::model::Variant;
use crate::store::{BadSelector, HEADER, Selector, Served, View};
use crate::value;

/// What a caller expects a flag to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    String,
    Float,
    Integer,
    Object,
}

/// A value of one of the kinds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain {
    Boolean(bool),
    String(String),
    Float(f64),
    Integer(i64),
    Object(Struct),
}

/// A resolved flag.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// `None` for the default in the caller's code.
    pub(super) value: Option<Plain>,
    pub(super) variant: Option<String>,
    pub(super) reason: &'static str,
    pub(super) metadata: Struct,
}

/// One flag of all, by key: its value and the rest of its answer, or its failure.
pub(super) type Any = (String, Result<(Plain, Answer), EvalError>);

/// What is known of a call before its body is read.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) selector: Selector,
    /// Attributes of the caller, over all others.
    pub(super) attributes: Vec<(String, Value)>,
}

/// Why a caller is not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallerError {
    #[error(transparent)]
    Selector(#[from] BadSelector),
    #[error("no flag set is pinned to the caller")]
    NotPinned,
}

/// The set of the first pin that admits `peer`; `None` where the caller may choose.
fn pinned<'p>(pins: &'p [Pin], peer: Option<&Peer>) -> Result<Option<&'p str>, CallerError> {
    if pins.is_empty() {
        return Ok(None);
    }
    // An absent identity matches nothing.
    let admits = |pin: &&Pin| peer.is_some_and(|peer| pin.policy.evaluate(peer).admits());
    match pins.iter().find(admits) {
        Some(pin) => Ok(pin.set.as_deref()),
        None => Err(CallerError::NotPinned),
    }
}

impl Caller {
    pub(super) fn of(
        flagd: &Flagd,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Self, CallerError> {
        let options = &flagd.inner.options;
        let selector = match pinned(&options.pins, extensions.get::<Peer>())? {
            Some(set) => Selector::FlagSet(set.to_owned()),
            None => {
                let text = headers.get(HEADER).and_then(|value| value.to_str().ok());
                Selector::parse(text.unwrap_or_default())?
            }
        };
        let mapped = options.context_from_headers.iter();
        let from_headers = mapped.filter_map(|(header, key)| {
            let value = headers.get(header.as_str())?.to_str().ok()?;
            (!value.is_empty()).then(|| (key.clone(), Value::from(value)))
        });
        let mut attributes: Vec<_> = from_headers.collect();
        if !options.context_from_peer.is_empty() {
            let peer = extensions.get::<Peer>();
            let facts = options.context_from_peer.iter();
            attributes.extend(facts.map(|(fact, key)| (key.clone(), fact.of(peer))));
        }
        Ok(Self {
            selector,
            attributes,
        })
    }
}

/// One evaluation of a view's flags.
pub(super) struct Evaluation<'a> {
    pub(super) flagd: &'a Flagd,
    pub(super) view: &'a View,
    pub(super) caller: &'a Caller,
    pub(super) attributes: Attributes<'a>,
}

impl Evaluation<'_> {
    /// The flag of `key`, as `kind`.
    pub(super) fn resolve(&self, key: &str, kind: Kind) -> Result<Answer, EvalError> {
        let found = self.view.find(key, &self.caller.selector);
        let Some(served) = found else {
            self.flagd.inner.metrics.failed("FLAG_NOT_FOUND");
            return Err(EvalError::NotFound);
        };
        let outcome = self.evaluate(served)?;
        let value = outcome
            .variant
            .map(|(_, variant)| self.plain(variant, kind));
        let value = value.transpose().inspect_err(|error| {
            self.flagd.inner.metrics.failed(error.code());
        })?;
        self.count(served, &outcome);
        Ok(Answer {
            value,
            variant: outcome.variant.map(|(name, _)| name.to_owned()),
            reason: outcome.reason.as_str(),
            metadata: self.metadata(served),
        })
    }

    /// Every selected flag that has a value, and every one that fails.
    pub(super) fn resolve_all(&self) -> Vec<Any> {
        let mut answers = Vec::new();
        for served in self.view.select_keys(&self.caller.selector) {
            let resolved = match self.evaluate(served) {
                Ok(outcome) => {
                    let Some((name, variant)) = outcome.variant else {
                        continue;
                    };
                    let Some(plain) = natural(variant) else {
                        continue;
                    };
                    self.count(served, &outcome);
                    let answer = Answer {
                        value: None,
                        variant: Some(name.to_owned()),
                        reason: outcome.reason.as_str(),
                        metadata: self.metadata(served),
                    };
                    Ok((plain, answer))
                }
                Err(error) => Err(error),
            };
            answers.push((served.flag.key.to_string(), resolved));
        }
        answers
    }

    /// What the flag comes to, as it was written: for JSON.
    pub(super) fn evaluate<'f>(&self, served: &'f Served) -> Result<Outcome<'f>, EvalError> {
        let inner = &self.flagd.inner;
        let context = Context {
            request: self.attributes,
            upstream: self.view.context(),
            fixed: &inner.options.context,
            caller: &self.caller.attributes,
            now: now(),
        };
        let outcome = inner.hub.evaluator.evaluate(&served.flag, &context);
        outcome.inspect_err(|error| {
            inner.metrics.failed(error.code());
            let text = crate::source::describe(error);
            tracing::debug!("flag {:?}: {text}", served.flag.key);
        })
    }

    pub(super) fn count(&self, served: &Served, outcome: &Outcome<'_>) {
        let variant = outcome.variant.map(|(name, _)| name);
        let metrics = &self.flagd.inner.metrics;
        metrics.resolved(&served.flag.key, variant, outcome.reason.as_str());
    }

    /// The flag's metadata, over what is reflected of the selector.
    pub(super) fn metadata(&self, served: &Served) -> Struct {
        let own = &served.flag.metadata.message;
        match self.caller.selector.reflected() {
            None => own.clone(),
            Some((key, text)) => {
                let mut whole = own.clone();
                let reflected = value::to_proto(&Value::from(text));
                whole.fields.entry(key.to_owned()).or_insert(reflected);
                whole
            }
        }
    }

    pub(super) fn metadata_json(&self, served: &Served) -> Map<String, Value> {
        let mut whole = reflected(&self.caller.selector);
        whole.extend(served.flag.metadata.json.clone());
        whole
    }

    fn plain(&self, variant: &Variant, kind: Kind) -> Result<Plain, EvalError> {
        let mismatch = EvalError::TypeMismatch;
        match (kind, &variant.value) {
            (Kind::Boolean, Value::Bool(truth)) => Ok(Plain::Boolean(*truth)),
            (Kind::String, Value::String(text)) => Ok(Plain::String(text.clone())),
            (Kind::Float, _) => number(variant).map(Plain::Float),
            (Kind::Integer, _) => {
                let integer = self.flagd.inner.hub.evaluator.integer(variant);
                integer.map(Plain::Integer)
            }
            (Kind::Object, _) => variant.object.clone().map(Plain::Object).ok_or(mismatch),
            _ => Err(mismatch),
        }
    }
}

/// What answers say of the selector.
pub(super) fn reflected(selector: &Selector) -> Map<String, Value> {
    let pair = selector.reflected();
    pair.map(|(key, text)| (key.to_owned(), Value::from(text)))
        .into_iter()
        .collect()
}

/// The value as the kind it is; nobody can ask for arrays and nulls.
fn natural(variant: &Variant) -> Option<Plain> {
    Some(match &variant.value {
        Value::Bool(truth) => Plain::Boolean(*truth),
        Value::String(text) => Plain::String(text.clone()),
        Value::Number(_) => Plain::Float(number(variant).ok()?),
        Value::Object(_) => Plain::Object(variant.object.clone()?),
        Value::Null | Value::Array(_) => return None,
    })
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
