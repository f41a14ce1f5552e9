//! Answers that hold until the daemon says otherwise: the least recently used go first.
//!
//! Trap: an answer may be on its way while the news that it is old arrives, so one is only kept if nothing was heard
//! between question and answer.

use std::collections::{BTreeMap, HashMap};

use crate::convert::Answer;

/// The state of the world that an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

#[derive(Debug)]
struct Entry {
    /// When it was used last.
    tick: u64,
    answer: Answer,
}

/// Answers by flag key.
#[derive(Debug)]
pub(crate) struct Cache {
    entries_max: usize,
    entries: HashMap<String, Entry>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, String>,
    tick: u64,
    epoch: u64,
    /// Nothing is kept while nobody would tell of changes.
    is_open: bool,
}

impl Cache {
    /// An empty one that keeps nothing before it is [opened](Self::open).
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            entries_max,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            tick: 0,
            epoch: 0,
            is_open: false,
        }
    }

    /// From now on changes are told; what happened before is not known.
    pub(crate) fn open(&mut self) {
        self.clear();
        self.is_open = self.entries_max > 0;
    }

    /// From now on changes are not told. What is kept may still be asked for.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.epoch += 1;
    }

    /// Forgets these.
    pub(crate) fn forget<'k>(&mut self, keys: impl IntoIterator<Item = &'k String>) {
        self.epoch += 1;
        for key in keys {
            if let Some(entry) = self.entries.remove(key) {
                self.order.remove(&entry.tick);
            }
        }
    }

    /// What a question that is asked now has to bring along to have its answer kept.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.is_open.then_some(Epoch(self.epoch))
    }

    /// The answer that is kept for `key`.
    pub(crate) fn get(&mut self, key: &str) -> Option<Answer> {
        let entry = self.entries.get_mut(key)?;
        self.order.remove(&entry.tick);
        self.tick += 1;
        entry.tick = self.tick;
        self.order.insert(self.tick, key.to_owned());
        Some(entry.answer.clone())
    }

    /// Keeps an answer, unless something was heard since its question.
    pub(crate) fn put(&mut self, asked: Epoch, key: &str, answer: Answer) {
        if self.epoch() != Some(asked) {
            return;
        }
        self.tick += 1;
        let tick = self.tick;
        if let Some(old) = self.entries.insert(key.to_owned(), Entry { tick, answer }) {
            self.order.remove(&old.tick);
        }
        self.order.insert(tick, key.to_owned());
        if self.entries.len() > self.entries_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::Plain;

    fn answer(number: i64) -> Answer {
        Answer {
            value: Plain::Int(number),
            ..Answer::default()
        }
    }

    fn opened(entries_max: usize) -> Cache {
        let mut cache = Cache::new(entries_max);
        cache.open();
        cache
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = opened(2);
        let epoch = cache.epoch().unwrap();
        cache.put(epoch, "a", answer(1));
        cache.put(epoch, "b", answer(2));
        assert!(cache.get("a").is_some());
        cache.put(epoch, "c", answer(3));
        assert!(cache.get("b").is_none());
        assert!(cache.get("a").is_some() && cache.get("c").is_some());
        cache.put(epoch, "a", answer(4));
        assert_eq!(cache.get("a").unwrap().value, Plain::Int(4));
        assert_eq!((cache.entries.len(), cache.order.len()), (2, 2));
    }

    #[test]
    fn an_answer_that_news_overtook_is_not_kept() {
        let mut cache = opened(2);
        let asked = cache.epoch().unwrap();
        cache.put(asked, "b", answer(1));
        cache.forget([&"a".to_owned()]);
        cache.put(asked, "a", answer(1));
        assert!(cache.get("a").is_none());
        assert!(cache.get("b").is_some(), "it is not concerned");
    }

    #[test]
    fn nothing_is_kept_that_nobody_would_correct() {
        let mut cache = Cache::new(2);
        assert_eq!(cache.epoch(), None);
        cache.open();
        let asked = cache.epoch().unwrap();
        cache.put(asked, "a", answer(1));
        cache.close();
        cache.put(asked, "b", answer(1));
        assert!(cache.get("a").is_some() && cache.get("b").is_none());
        cache.open();
        assert!(
            cache.get("a").is_none(),
            "what changed meanwhile is not known"
        );
        assert_eq!(opened(0).epoch(), None);
    }
}
