//! EventStream: tells each subscriber what changed since it was last told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use connectrpc::{CodecFormat, ConnectError, EncodedBody, EncodedStream, ErrorCode};
use futures_util::stream::unfold;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Flagd, codec};
use crate::store::{Changes, Selector, View};

/// What ends a stream, or makes it say something.
pub(super) enum Turn {
    /// The flags changed.
    Changed(Arc<View>),
    /// It was quiet for long enough.
    Idle,
    /// The server stops.
    Stopping,
    /// Another server serves in place of this one.
    Released,
    /// The stream is older than streams may be.
    Old,
}

/// Waits for what concerns a stream.
pub(super) struct Turns {
    views: watch::Receiver<Arc<View>>,
    stopping: watch::Receiver<bool>,
    released: watch::Receiver<u64>,
    keep_alive: Duration,
    deadline: Option<Instant>,
}

impl Turns {
    pub(super) fn new(flagd: &Flagd) -> Self {
        let options = &flagd.inner.options;
        Self {
            views: flagd.inner.hub.store.subscribe(),
            stopping: flagd.inner.stopping.subscribe(),
            released: flagd.inner.released.subscribe(),
            keep_alive: options.keep_alive,
            deadline: options.stream_deadline.map(|life| Instant::now() + life),
        }
    }

    /// The view at this moment, which later turns are measured against.
    pub(super) fn view(&mut self) -> Arc<View> {
        Arc::clone(&self.views.borrow_and_update())
    }

    pub(super) async fn next(&mut self) -> Turn {
        let idle = tokio::time::sleep(self.keep_alive);
        let deadline = async {
            match self.deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => Turn::Stopping,
            _ = self.released.changed() => Turn::Released,
            () = deadline => Turn::Old,
            changed = self.views.changed() => match changed {
                Ok(()) => Turn::Changed(Arc::clone(&self.views.borrow_and_update())),
                Err(_) => Turn::Stopping,
            },
            () = idle => Turn::Idle,
        }
    }
}

/// What ends a stream at shutdown: not OK, because clients take OK for nothing worth noticing.
pub(super) fn stopping() -> ConnectError {
    ConnectError::unavailable("the server is stopping; try again")
}

pub(super) fn too_old() -> ConnectError {
    let text = "stream closed due to server-side timeout";
    ConnectError::new(ErrorCode::DeadlineExceeded, text)
}

enum State {
    New,
    Told(Arc<View>),
    Ending,
    Ended,
}

pub(super) fn stream(flagd: &Flagd, selector: Selector, format: CodecFormat) -> EncodedStream {
    let stream = Stream {
        flagd: flagd.clone(),
        turns: Turns::new(flagd),
        selector,
        format,
        state: State::New,
    };
    let gauge = flagd.inner.metrics.stream();
    Box::pin(unfold((stream, gauge), |(mut stream, gauge)| async move {
        let item = stream.next().await?;
        Some((item.map(EncodedBody::from), (stream, gauge)))
    }))
}

struct Stream {
    flagd: Flagd,
    turns: Turns,
    selector: Selector,
    format: CodecFormat,
    state: State,
}

impl Stream {
    async fn next(&mut self) -> Option<Result<Bytes, ConnectError>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::New => {
                    self.state = State::Told(self.turns.view());
                    return Some(Ok(self.event("provider_ready", None)));
                }
                State::Told(told) => match self.turns.next().await {
                    Turn::Changed(view) => {
                        let changes = view.changes_since(&told, &self.selector);
                        self.state = State::Told(view);
                        if !changes.is_empty() {
                            return Some(Ok(self.flagd.inner.news.event(&changes, self.format)));
                        }
                    }
                    Turn::Idle => {
                        self.state = State::Told(told);
                        return Some(Ok(self.event("keep_alive", None)));
                    }
                    Turn::Stopping => {
                        self.state = State::Ending;
                        return Some(Ok(self.event("provider_shutdown", None)));
                    }
                    // No shutdown: the flags are served on, and whoever comes back finds them.
                    Turn::Released => return Some(Err(stopping())),
                    Turn::Old => return Some(Err(too_old())),
                },
                State::Ending => return Some(Err(stopping())),
                State::Ended => return None,
            }
        }
    }

    fn event(&self, kind: &str, data: Option<Map<String, Value>>) -> Bytes {
        codec::event(kind, data, self.format)
    }
}

/// The last change as each form of message: all streams that hear of it send the same bytes.
#[derive(Debug, Default)]
pub(super) struct News {
    /// As protobuf and as JSON.
    last: Mutex<[Option<Told>; 2]>,
}

#[derive(Debug)]
struct Told {
    changes: Arc<Changes>,
    bytes: Bytes,
}

impl News {
    fn event(&self, changes: &Arc<Changes>, format: CodecFormat) -> Bytes {
        // What is replaced under the lock is replaced whole.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let [proto, json] = &mut *last;
        let kept = match format {
            CodecFormat::Proto => proto,
            _ => json,
        };
        if let Some(told) = kept
            && Arc::ptr_eq(&told.changes, changes)
        {
            return told.bytes.clone();
        }
        let bytes = codec::event("configuration_change", Some(data(changes)), format);
        *kept = Some(Told {
            changes: Arc::clone(changes),
            bytes: bytes.clone(),
        });
        bytes
    }
}

fn data(changes: &Changes) -> Map<String, Value> {
    let flags = changes
        .iter()
        .map(|(key, change)| (key.clone(), json!({"type": change.as_str()})));
    let flags: Map<String, Value> = flags.collect();
    Map::from_iter([("flags".to_owned(), Value::Object(flags))])
}
