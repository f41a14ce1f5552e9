//! One source's seat at the hub: what it read goes to the store, what failed into the log, and who waits is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{Hub, ReadError, describe};
use crate::model::{self, FlagSet, Format};

/// One source's place.
#[derive(Debug)]
pub(super) struct Seat {
    index: usize,
    pub(super) name: String,
    pub(super) hub: Arc<Hub>,
    /// What failed last, so that what fails in the same way for hours is told once.
    failure: Option<String>,
    /// The text of the last good flags, to see that it came again.
    text: String,
    /// Attributes that came with the text that is being read.
    context: Option<Map<String, Value>>,
    /// Waits for the first reading, good or bad.
    first: Option<oneshot::Sender<()>>,
}

impl Seat {
    /// The seat of source number `index`, and what tells of its first reading.
    pub(super) fn new(index: usize, name: &str, hub: &Arc<Hub>) -> (Self, oneshot::Receiver<()>) {
        let (first, begun) = oneshot::channel();
        let seat = Self {
            index,
            name: name.to_owned(),
            hub: Arc::clone(hub),
            failure: None,
            text: String::new(),
            context: None,
            first: Some(first),
        };
        (seat, begun)
    }

    /// Takes one reading: good flags into the store, a failure into the log.
    pub(super) fn take(&mut self, reading: Result<FlagSet, ReadError>) {
        let name = &self.name;
        match reading {
            Ok(set) => {
                self.failure = None;
                self.hub.counts.good.fetch_add(1, Ordering::Relaxed);
                for note in &set.notes {
                    tracing::warn!("{name}: {note}");
                }
                let flags = set.flags.len();
                let context = self.context.take();
                let changes = self.hub.store.change(self.index, Some(set.flags), context);
                tracing::info!("{name}: {flags} flags, {} changed", changes.len());
            }
            Err(error) => self.fail(&error),
        }
        if let Some(first) = self.first.take() {
            // Nobody waits any more if it took too long.
            let _ = first.send(());
        }
    }

    fn fail(&mut self, error: &ReadError) {
        let name = &self.name;
        if matches!(error, ReadError::Load(_)) {
            // The same good text again, after this, is news.
            self.text.clear();
        }
        self.hub.counts.bad.fetch_add(1, Ordering::Relaxed);
        let view = self.hub.store.view();
        let waits = view.waiting().iter().any(|source| **source == **name);
        let stays = if waits {
            "it has never been read: not ready"
        } else {
            "the last good flags stay"
        };
        let text = describe(error);
        if self.failure.as_ref() == Some(&text) {
            tracing::debug!("{name}: {text}; {stays}");
        } else {
            tracing::error!("{name}: {text}; {stays}");
            self.failure = Some(text);
        }
    }

    /// As [`offer`](Self::offer), with the attributes that the source wants every evaluation to have.
    pub(super) async fn offer_with(&mut self, text: String, context: Map<String, Value>) -> bool {
        self.context = Some(context);
        let is_served = self.offer(text, Format::Json).await;
        // The flags are as they were, or bad and not taken.
        if let Some(context) = self.context.take()
            && is_served
        {
            self.hub.store.change(self.index, None, Some(context));
        }
        is_served
    }

    /// Takes a text, unless it is that of the last good flags. Says whether its flags are served now.
    pub(super) async fn offer(&mut self, text: String, format: Format) -> bool {
        if text == self.text {
            self.answers_again();
            return true;
        }
        let evaluator = Arc::clone(&self.hub.evaluator);
        let loading = tokio::task::spawn_blocking(move || {
            let set = model::load(&text, format, &evaluator);
            (set, text)
        });
        let (reading, text) = match loading.await {
            Ok((set, text)) => (set.map_err(ReadError::Load), text),
            Err(_) => (Err(ReadError::BrokenOff), String::new()),
        };
        let good = reading.is_ok();
        self.take(reading);
        if good {
            self.text = text;
        }
        good
    }

    /// The source could be asked, and has nothing new to say.
    pub(super) fn answers_again(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!("{}: it answers again", self.name);
        }
    }
}
