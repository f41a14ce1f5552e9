//! Flags as they are served: checked, merged with their set's metadata, with compiled rules.
//!
//! `text` (JSON or YAML) ─► `refs` (shared rules) ─► `load` (flags, findings with line and column).

mod error;
mod load;
mod place;
mod refs;
mod text;
mod yaml;

pub use error::{Fault, LoadError, Note, Warning};
pub use load::{FlagSet, load};
pub use place::{Place, Step};
pub use text::{Format, parse as read_value};

use std::collections::BTreeMap;

use prost_types::Struct;
use serde_json::{Map, Value};

use crate::eval::Rule;
use crate::value;

/// Bytes of a source that are read; more is an error, not a slow death.
pub const SOURCE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The metadata key, and the selector key, that names a set of flags.
pub const FLAG_SET_ID: &str = "flagSetId";

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

/// Free facts about a flag, as JSON and for the wire.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Members without nulls.
    pub json: Map<String, Value>,
    /// The same for the wire.
    pub message: Struct,
}

impl Metadata {
    /// Of these members, without the nulls.
    #[must_use]
    pub fn new(mut json: Map<String, Value>) -> Self {
        json.retain(|_, value| !value.is_null());
        let message = value::to_struct(&json);
        Self { json, message }
    }
}

/// One flag.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Its name, unique in its set.
    pub key: String,
    /// The set it belongs to; empty for none.
    pub set_id: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Its values by name.
    pub variants: BTreeMap<String, Variant>,
    /// The variant without, or beside, targeting; the code's own default without one.
    pub default_variant: Option<String>,
    /// Its targeting, if it has any.
    pub rule: Option<Rule>,
    /// The set's and its own, its own first.
    pub metadata: Metadata,
    /// Its definition with shared rules put in and without metadata: what makes it the same or another.
    pub definition: Map<String, Value>,
}

impl PartialEq for Flag {
    /// The same for everybody who asks.
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && self.set_id == other.set_id
            && value::same_members(&self.definition, &other.definition)
            && value::same_members(&self.metadata.json, &other.metadata.json)
    }
}
