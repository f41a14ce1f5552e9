//! flagd.sync.v1: whole sets of flags as JSON, for in-process providers and other daemons.

use std::sync::Arc;

use bytes::Bytes;
use connectrpc::{CodecFormat, ConnectError, EncodedBody, EncodedStream};
use futures_util::stream::unfold;
use prost::Message;
use serde_json::{Map, Value, json};

use super::Flagd;
use super::codec::{self, json_bytes, json_members};
use super::connect::bad_selector;
use super::events::{Turn, Turns, stopping, too_old};
use super::proto::sync::v1;
use super::resolve::Caller;
use crate::store::{Selector, View};
use crate::value;

/// The selected flags as flagd's sync writes them: shared rules and set metadata are in each flag.
fn configuration(view: &View, selector: &Selector) -> String {
    let mut text = String::from("{\"flags\":{");
    for (index, served) in view.select_keys(selector).into_iter().enumerate() {
        let flag = &served.flag;
        let (key, source) = (Value::from(&*flag.key), Value::from(&*served.source));
        let metadata = Value::Object(flag.metadata.json.clone());
        // A definition is an object, and never empty.
        let open = flag.definition.strip_suffix('}').unwrap_or_default();
        let comma = if index == 0 { "" } else { "," };
        text += &format!("{comma}{key}:{open},\"source\":{source},\"metadata\":{metadata}}}");
    }
    text += "}}";
    text
}

/// The header's selector, or the deprecated one in the body.
fn selector(caller: &Caller, body: &str) -> Result<Selector, ConnectError> {
    match &caller.selector {
        Selector::All => Selector::parse(body).map_err(bad_selector),
        header => Ok(header.clone()),
    }
}

fn body_selector(bytes: Bytes, format: CodecFormat) -> Result<String, ConnectError> {
    if format == CodecFormat::Proto {
        let request = v1::SyncFlagsRequest::decode(bytes);
        let bad = |error| ConnectError::invalid_argument(format!("the request: {error}"));
        return Ok(request.map_err(bad)?.selector);
    }
    codec::text(&mut json_members(&bytes)?, "selector", "selector")
}

pub(super) fn fetch(
    flagd: &Flagd,
    caller: &Caller,
    bytes: Bytes,
    format: CodecFormat,
) -> Result<Bytes, ConnectError> {
    let selector = selector(caller, &body_selector(bytes, format)?)?;
    let flag_configuration = configuration(&flagd.inner.hub.store.view(), &selector);
    Ok(match format {
        CodecFormat::Proto => {
            let response = v1::FetchAllFlagsResponse { flag_configuration };
            Bytes::from(response.encode_to_vec())
        }
        _ => json_bytes(&json!({ "flagConfiguration": flag_configuration })),
    })
}

pub(super) fn metadata(flagd: &Flagd, format: CodecFormat) -> Result<Bytes, ConnectError> {
    if flagd.inner.options.disable_sync_metadata {
        return Err(ConnectError::unimplemented("metadata endpoint disabled"));
    }
    let context = fixed_context(flagd, &flagd.inner.hub.store.view());
    Ok(match format {
        CodecFormat::Proto => {
            let response = v1::GetMetadataResponse {
                metadata: Some(value::to_struct(&context)),
            };
            Bytes::from(response.encode_to_vec())
        }
        _ => json_bytes(&json!({ "metadata": context })),
    })
}

/// What every evaluation has: what the sources say, and over it what was fixed here.
fn fixed_context(flagd: &Flagd, view: &View) -> Map<String, Value> {
    let own = flagd.inner.options.context.iter();
    view.context().iter().chain(own).cloned().collect()
}

pub(super) fn stream(
    flagd: &Flagd,
    caller: Caller,
    request: Bytes,
    format: CodecFormat,
) -> Result<EncodedStream, ConnectError> {
    let stream = Stream {
        selector: selector(&caller, &body_selector(request, format)?)?,
        flagd: flagd.clone(),
        turns: Turns::new(flagd),
        format,
        state: State::New,
    };
    let gauge = flagd.inner.metrics.stream();
    Ok(Box::pin(unfold(
        (stream, gauge),
        |(mut stream, gauge)| async move {
            let item = stream.next().await?;
            Some((item.map(EncodedBody::from), (stream, gauge)))
        },
    )))
}

enum State {
    New,
    Told(Arc<View>),
    Ended,
}

struct Stream {
    selector: Selector,
    flagd: Flagd,
    turns: Turns,
    format: CodecFormat,
    state: State,
}

impl Stream {
    async fn next(&mut self) -> Option<Result<Bytes, ConnectError>> {
        let mut told = match std::mem::replace(&mut self.state, State::Ended) {
            State::New => {
                let view = self.turns.view();
                if view.waiting().is_empty() {
                    return Some(Ok(self.tell(view)));
                }
                view
            }
            State::Told(told) => told,
            State::Ended => return None,
        };
        loop {
            match self.turns.next().await {
                Turn::Changed(view) => {
                    let first = !told.waiting().is_empty() && view.waiting().is_empty();
                    let changed = !view.changes_since(&told, &self.selector).is_empty();
                    let attributes = view.context() != told.context();
                    if first || changed || attributes {
                        return Some(Ok(self.tell(view)));
                    }
                    told = view;
                }
                // The protocol has no word for it: the connection's own keep-alive is enough.
                Turn::Idle => {}
                Turn::Stopping | Turn::Released => return Some(Err(stopping())),
                Turn::Old => return Some(Err(too_old())),
            }
        }
    }

    fn tell(&mut self, view: Arc<View>) -> Bytes {
        let flag_configuration = configuration(&view, &self.selector);
        let context = fixed_context(&self.flagd, &view);
        self.state = State::Told(view);
        match self.format {
            CodecFormat::Proto => {
                let response = v1::SyncFlagsResponse {
                    flag_configuration,
                    sync_context: Some(value::to_struct(&context)),
                };
                Bytes::from(response.encode_to_vec())
            }
            _ => json_bytes(&json!({
                "flagConfiguration": flag_configuration,
                "syncContext": context,
            })),
        }
    }
}
