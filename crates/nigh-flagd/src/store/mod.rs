//! All sources' flags, each in a layer of its own, and the one view that calls are answered from.
//!
//! Layers are kept whole: when a higher source drops a flag, the lower one's comes back.

mod selector;
mod view;

pub use selector::{BadSelector, HEADER, Selector};
pub use view::{Change, Changes, Served, View};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::model::Flag;

/// One source's flags.
#[derive(Debug)]
struct Layer {
    source: Arc<str>,
    flags: Vec<Arc<Flag>>,
    /// Attributes that it wants every evaluation to have.
    context: Map<String, Value>,
    /// Whether it was read once.
    read: bool,
}

/// The flags of all sources. A higher index has the higher priority.
#[derive(Debug)]
pub struct Store {
    layers: Mutex<Vec<Layer>>,
    view: watch::Sender<Arc<View>>,
}

impl Store {
    /// A store for these sources, all of them unread.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = String>) -> Self {
        let layer = |source: String| Layer {
            source: source.into(),
            flags: Vec::new(),
            context: Map::new(),
            read: false,
        };
        let layers: Vec<Layer> = sources.into_iter().map(layer).collect();
        let mut view = View::default();
        view.waiting = waiting(&layers);
        Self {
            layers: Mutex::new(layers),
            view: watch::Sender::new(Arc::new(view)),
        }
    }

    /// This moment's flags.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the changes, beginning with the next.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Replaces the flags of source number `index`, and says what that changed for everybody.
    ///
    /// Callers see all of it or nothing. An index without a source changes nothing.
    pub fn update(&self, index: usize, flags: Vec<Flag>) -> Arc<Changes> {
        self.change(index, Some(flags), None)
    }

    /// As [`update`](Self::update); `None` leaves the flags, or the attributes that the source wants evaluations to
    /// have, as they are.
    pub fn change(
        &self,
        index: usize,
        flags: Option<Vec<Flag>>,
        context: Option<Map<String, Value>>,
    ) -> Arc<Changes> {
        let mut layers = self.layers();
        let Some(layer) = layers.get_mut(index) else {
            return Arc::default();
        };
        let is_same = flags.is_none() && context.as_ref().is_none_or(|new| *new == layer.context);
        if is_same {
            return Arc::default();
        }
        let was_read = layer.read;
        if let Some(flags) = flags {
            layer.read = true;
            layer.flags = keep_equal(&layer.flags, flags);
        }
        if let Some(context) = context {
            layer.context = context;
        }
        let before = self.view();
        let of_layers = layers
            .iter()
            .map(|layer| (&layer.source, layer.flags.as_slice()));
        let mut view = View::of(of_layers);
        // A change of a hidden flag changes nothing for those who see all, but something for a selector.
        let news = Arc::new(view.compare(&before, &Selector::All));
        view.generation = before.generation + 1;
        view.news = Arc::clone(&news);
        view.waiting = waiting(&layers);
        let contexts = layers.iter().map(|layer| &layer.context);
        let merged: Map<String, Value> = contexts.flatten().map(member).collect();
        view.context = merged.into_iter().collect();
        tracing::debug!(was_read, changes = news.len(), "source {index} is read");
        self.view.send_replace(Arc::new(view));
        news
    }

    fn layers(&self) -> MutexGuard<'_, Vec<Layer>> {
        // Every change under the lock is complete or has not begun.
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn member((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn waiting(layers: &[Layer]) -> Vec<Arc<str>> {
    let unread = layers.iter().filter(|layer| !layer.read);
    unread.map(|layer| Arc::clone(&layer.source)).collect()
}

/// The new flags; those that are as before stay the very same, so that comparing views is cheap.
fn keep_equal(old: &[Arc<Flag>], new: Vec<Flag>) -> Vec<Arc<Flag>> {
    let old: HashMap<(&str, &str), &Arc<Flag>> = old
        .iter()
        .map(|flag| ((flag.set_id.as_str(), &*flag.key), flag))
        .collect();
    let kept = |flag: Flag| match old.get(&(flag.set_id.as_str(), &*flag.key)) {
        Some(same) if ***same == flag => Arc::clone(same),
        _ => Arc::new(flag),
    };
    new.into_iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Evaluator, Fractional, Integers};
    use crate::model::{Format, load};

    fn flags(text: &str) -> Vec<Flag> {
        let evaluator = Evaluator::new(Fractional::V2, Integers::Truncate).unwrap();
        load(text, Format::Json, &evaluator).unwrap().flags
    }

    fn one(key: &str, value: i32, set: &str) -> Vec<Flag> {
        let metadata = if set.is_empty() {
            String::new()
        } else {
            format!(r#""metadata": {{"flagSetId": "{set}"}},"#)
        };
        flags(&format!(
            r#"{{{metadata} "flags": {{"{key}": {{"state": "ENABLED", "variants": {{"v": {value}}}, "defaultVariant": "v"}}}}}}"#
        ))
    }

    fn value(view: &View, key: &str, selector: &Selector) -> Option<i64> {
        let served = view.find(key, selector)?;
        served.flag.variants.get("v")?.1.value.as_i64()
    }

    fn words(changes: &Changes) -> Vec<(&str, &str)> {
        let words = changes.iter();
        words
            .map(|(key, change)| (key.as_str(), change.as_str()))
            .collect()
    }

    #[test]
    fn a_lower_source_comes_back() {
        let store = Store::new(["low".into(), "high".into()]);
        assert_eq!(store.view().waiting().len(), 2);
        assert_eq!(words(&store.update(0, one("a", 1, ""))), [("a", "write")]);
        assert_eq!(words(&store.update(1, one("a", 2, ""))), [("a", "update")]);
        let all = Selector::All;
        assert_eq!(value(&store.view(), "a", &all), Some(2));
        let low = Selector::Source("low".into());
        assert_eq!(value(&store.view(), "a", &low), Some(1));
        assert!(store.update(0, one("a", 3, "")).is_empty(), "it is hidden");
        assert_eq!(words(&store.update(1, Vec::new())), [("a", "update")]);
        assert_eq!(value(&store.view(), "a", &all), Some(3));
        assert_eq!(words(&store.update(0, Vec::new())), [("a", "delete")]);
        assert!(store.view().waiting().is_empty());
        assert!(store.update(9, one("a", 1, "")).is_empty());
    }

    #[test]
    fn a_selector_sees_its_own_changes() {
        let store = Store::new(["one".into(), "two".into()]);
        store.update(0, one("a", 1, "s"));
        let before = store.view();
        store.update(1, one("a", 2, "t"));
        let after = store.view();
        let set = |id: &str| Selector::FlagSet(id.into());
        assert!(after.changes_since(&before, &set("s")).is_empty());
        assert_eq!(
            words(&after.changes_since(&before, &set("t"))),
            [("a", "write")]
        );
        assert_eq!(
            words(&after.changes_since(&before, &Selector::All)),
            [("a", "update")]
        );
        assert_eq!(value(&after, "a", &set("s")), Some(1));
        assert_eq!(value(&after, "a", &Selector::All), Some(2));
        assert_eq!(after.select(&Selector::All).len(), 2);
        assert_eq!(after.select_keys(&Selector::All).len(), 1);
        assert_eq!(value(&after, "a", &set("")), None);
    }

    #[test]
    fn the_attributes_of_sources_are_merged_by_priority() {
        let store = Store::new(["low".into(), "high".into()]);
        let members = |text: &str| serde_json::from_str(text).ok();
        store.update(0, one("a", 1, ""));
        let low = r#"{"region": "low", "tier": 1}"#;
        assert!(store.change(0, None, members(low)).is_empty());
        store.change(1, Some(Vec::new()), members(r#"{"region": "high"}"#));
        let shown = |store: &Store| format!("{:?}", store.view().context());
        assert_eq!(
            shown(&store),
            r#"[("region", String("high")), ("tier", Number(1))]"#
        );
        store.update(1, Vec::new());
        assert!(shown(&store).contains("high"), "flags alone leave it");
        store.change(1, None, members("{}"));
        assert!(shown(&store).contains("low"));
        assert_eq!(value(&store.view(), "a", &Selector::All), Some(1));
    }

    #[test]
    fn the_same_again_is_no_change() {
        let store = Store::new(["one".into()]);
        store.update(0, one("a", 1, ""));
        let before = store.view();
        assert!(store.update(0, one("a", 1, "")).is_empty());
        let after = store.view();
        let find = |view: &View| Arc::clone(&view.find("a", &Selector::All).unwrap().flag);
        assert!(Arc::ptr_eq(&find(&before), &find(&after)));
    }
}
