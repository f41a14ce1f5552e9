//! One moment's flags: what every call of that moment sees.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::selector::Selector;
use crate::model::Flag;

/// A flag and the source it came from.
#[derive(Debug, Clone)]
pub struct Served {
    /// The flag.
    pub flag: Arc<Flag>,
    /// The source's address as configured.
    pub source: Arc<str>,
}

/// What happened to a flag between two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Write,
    /// It is another.
    Update,
    /// It is gone.
    Delete,
}

impl Change {
    /// The word that flagd uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Changes by flag key.
pub type Changes = BTreeMap<String, Change>;

/// The flags of one key, from several sources or in several sets.
#[derive(Debug)]
struct Ranked {
    /// That with the highest priority, and mostly the only one.
    first: Served,
    /// The rest, in the order of their priority.
    rest: Vec<Served>,
}

impl Ranked {
    fn iter(&self) -> impl Iterator<Item = &Served> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The flags that callers with this selector see: of each set the first.
    fn visible<'s>(&'s self, selector: &Selector) -> Vec<&'s Served> {
        let mut visible: Vec<&Served> = Vec::new();
        for served in self.iter().filter(|served| selects(selector, served)) {
            let is_hidden = |other: &&Served| other.flag.set_id == served.flag.set_id;
            if !visible.iter().any(is_hidden) {
                visible.push(served);
            }
        }
        visible
    }

    /// Whether these are the very same flags from the very same sources.
    fn is(&self, other: &Self) -> bool {
        let is = |(a, b): (&Served, &Served)| {
            Arc::ptr_eq(&a.flag, &b.flag) && Arc::ptr_eq(&a.source, &b.source)
        };
        self.rest.len() == other.rest.len() && self.iter().zip(other.iter()).all(is)
    }
}

/// One moment's flags.
#[derive(Debug, Default)]
pub struct View {
    /// Counts the changes.
    pub(super) generation: u64,
    /// By key: the flags of all sources.
    by_key: HashMap<Arc<str>, Ranked>,
    /// What is new against the view before, for callers who see everything.
    pub(super) news: Arc<Changes>,
    /// Sources that have not been read once.
    pub(super) waiting: Vec<Arc<str>>,
    /// Attributes that sources want every evaluation to have, each once.
    pub(super) context: Vec<(String, Value)>,
}

impl View {
    /// From layers, the highest priority last.
    pub(super) fn of<'l>(
        layers: impl DoubleEndedIterator<Item = (&'l Arc<str>, &'l [Arc<Flag>])>,
    ) -> Self {
        let mut by_key: HashMap<Arc<str>, Ranked> = HashMap::new();
        for (source, flags) in layers.rev() {
            for flag in flags {
                let served = Served {
                    flag: Arc::clone(flag),
                    source: Arc::clone(source),
                };
                match by_key.get_mut(&flag.key) {
                    Some(ranked) => ranked.rest.push(served),
                    None => {
                        let rest = Vec::new();
                        let first = served;
                        by_key.insert(Arc::clone(&flag.key), Ranked { first, rest });
                    }
                }
            }
        }
        Self {
            by_key,
            ..Self::default()
        }
    }

    /// The flag of this key with the highest priority among those selected.
    #[must_use]
    pub fn find(&self, key: &str, selector: &Selector) -> Option<&Served> {
        let ranked = self.by_key.get(key)?;
        ranked.iter().find(|served| selects(selector, served))
    }

    /// The selected flags, sorted by set and key; of those with both equal, the highest priority.
    #[must_use]
    pub fn select(&self, selector: &Selector) -> Vec<&Served> {
        let ranked = self.by_key.values();
        let mut selected: Vec<&Served> =
            ranked.flat_map(|ranked| ranked.visible(selector)).collect();
        selected.sort_by(|a, b| (&a.flag.set_id, &a.flag.key).cmp(&(&b.flag.set_id, &b.flag.key)));
        selected
    }

    /// The keys of the selected flags, each once, sorted by the flags' set and key.
    #[must_use]
    pub fn select_keys(&self, selector: &Selector) -> Vec<&Served> {
        let mut seen = std::collections::HashSet::new();
        let selected = self.select(selector).into_iter();
        let first = selected.filter(|served| seen.insert(&*served.flag.key));
        first
            .filter_map(|served| self.find(&served.flag.key, selector))
            .collect()
    }

    /// What changed since `before`, for callers with this selector.
    #[must_use]
    pub fn changes_since(&self, before: &Self, selector: &Selector) -> Arc<Changes> {
        if self.generation == before.generation + 1 && *selector == Selector::All {
            return Arc::clone(&self.news);
        }
        Arc::new(self.compare(before, selector))
    }

    pub(super) fn compare(&self, before: &Self, selector: &Selector) -> Changes {
        let mut changes = Changes::new();
        for (key, new) in &self.by_key {
            if let Some(change) = change(before.by_key.get(key), Some(new), selector) {
                changes.insert(key.to_string(), change);
            }
        }
        for (key, old) in &before.by_key {
            if !self.by_key.contains_key(key)
                && let Some(change) = change(Some(old), None, selector)
            {
                changes.insert(key.to_string(), change);
            }
        }
        changes
    }

    /// Sources that have not been read once.
    #[must_use]
    pub fn waiting(&self) -> &[Arc<str>] {
        &self.waiting
    }

    /// Attributes that sources want every evaluation to have: the `sync_context` of other daemons. Each key is there once,
    /// from the source with the highest priority.
    #[must_use]
    pub fn context(&self) -> &[(String, Value)] {
        &self.context
    }

    /// Counts the views; each differs from the one before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Flags by key, not counting those that others hide.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

fn selects(selector: &Selector, served: &Served) -> bool {
    match selector {
        Selector::All => true,
        Selector::Source(source) => *served.source == **source,
        Selector::FlagSet(id) => served.flag.set_id == *id,
    }
}

/// What happened to one key, whose flags may be in several sets.
fn change(old: Option<&Ranked>, new: Option<&Ranked>, selector: &Selector) -> Option<Change> {
    if let (Some(old), Some(new)) = (old, new)
        && old.is(new)
    {
        return None;
    }
    let [old, new] = [old, new].map(|ranked| {
        let visible = ranked.map(|ranked| ranked.visible(selector));
        visible.unwrap_or_default()
    });
    match (old.is_empty(), new.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Change::Write),
        (false, true) => Some(Change::Delete),
        (false, false) => {
            let same = old.len() == new.len()
                && old
                    .iter()
                    .zip(&new)
                    .all(|(a, b)| Arc::ptr_eq(&a.flag, &b.flag) || a.flag == b.flag);
            (!same).then_some(Change::Update)
        }
    }
}
