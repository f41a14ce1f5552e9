//! Flags as they are served: checked, merged with their set's metadata, with compiled rules.
//!
//! `text` (JSON or YAML) ─► `document` (flags one by one) ─► `refs` (shared rules) ─► `load` (flags, findings with line and
//! column).

mod document;
mod error;
mod load;
mod place;
mod refs;
mod scan;
mod text;
mod variants;
mod yaml;

pub use error::{Fault, LoadError, Note, Warning};
pub use load::{FlagSet, load};
pub use place::{Place, Step};
pub use text::{Format, parse as read_value};
pub use variants::{Variant, Variants};

use std::sync::Arc;

use prost_types::Struct;
use serde_json::{Map, Value};

use crate::eval::Rule;
use crate::value;

/// Bytes of a source that are read; more is an error, not a slow death.
pub const SOURCE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The metadata key, and the selector key, that names a set of flags.
pub const FLAG_SET_ID: &str = "flagSetId";

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

/// One flag. What is kept for each is little, and in few pieces: there may be many thousands.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Its name, unique in its set.
    pub key: Arc<str>,
    /// The set it belongs to; empty for none.
    pub set_id: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Its values by name, and the default one.
    pub variants: Variants,
    /// Its targeting, if it has any.
    pub rule: Option<Rule>,
    /// The set's and its own, its own first.
    pub metadata: Arc<Metadata>,
    /// Its definition as JSON text: shared rules put in, a `defaultVariant` always there (empty for none), without
    /// `key`, `source` and metadata; each number in one spelling only. What makes it the same or another.
    pub definition: Box<str>,
}

impl PartialEq for Flag {
    /// The same for everybody who asks.
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && self.set_id == other.set_id
            && self.definition == other.definition
            && self.metadata.json == other.metadata.json
    }
}
