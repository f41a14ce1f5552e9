//! The values of one flag by name, and which of them is the default.

use prost_types::Struct;
use serde_json::{Map, Value};

use crate::value;

/// One value that a flag can have.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// As it was written.
    pub value: Value,
    /// The same for the wire, where it is an object.
    pub object: Option<Struct>,
}

impl Variant {
    /// A variant of this value.
    #[must_use]
    pub fn new(value: Value) -> Self {
        let object = value.as_object().map(value::to_struct);
        Self { value, object }
    }
}

/// A flag's values, all in one piece of memory: an evaluation looks at few places.
#[derive(Debug, Clone, PartialEq)]
pub struct Variants {
    /// Sorted by name.
    named: Box<[(Box<str>, Variant)]>,
    default: Option<usize>,
}

impl Variants {
    /// These values, none of them the default.
    #[must_use]
    pub fn new(values: Map<String, Value>) -> Self {
        // The map gives them sorted.
        let named = values
            .into_iter()
            .map(|(name, value)| (name.into_boxed_str(), Variant::new(value)));
        Self {
            named: named.collect(),
            default: None,
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        let found = self
            .named
            .binary_search_by(|(other, _)| (**other).cmp(name));
        found.ok()
    }

    fn at(&self, index: usize) -> Option<(&str, &Variant)> {
        let (name, variant) = self.named.get(index)?;
        Some((name, variant))
    }

    /// Makes the variant called `name` the default, and says whether there is one.
    #[must_use]
    pub fn set_default(&mut self, name: &str) -> bool {
        self.default = self.index(name);
        self.default.is_some()
    }

    /// The variant without, or beside, targeting; without one it is the code's own default.
    #[must_use]
    pub fn default(&self) -> Option<(&str, &Variant)> {
        self.at(self.default?)
    }

    /// The variant called `name`, and its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&str, &Variant)> {
        self.at(self.index(name)?)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variant)> {
        self.named.iter().map(|(name, variant)| (&**name, variant))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_found_by_name() {
        let values = json!({"b": {"x": 1}, "a": true, "c": null});
        let mut variants = Variants::new(values.as_object().unwrap().clone());
        let names: Vec<&str> = variants.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(variants.get("a").unwrap().1.value, json!(true));
        assert!(variants.get("b").unwrap().1.object.is_some());
        assert!(variants.get("d").is_none() && variants.default().is_none());
        assert!(variants.set_default("c"));
        assert_eq!(variants.default().unwrap().0, "c");
        assert!(!variants.set_default("d"));
        assert!(Variants::new(Map::new()).is_empty());
    }
}
