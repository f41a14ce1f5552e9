//! Which flags a caller asks for: the `Flagd-Selector` header.

use crate::model::FLAG_SET_ID;

/// The header, as HTTP writes it.
pub const HEADER: &str = "flagd-selector";

/// A choice of flags. It is the caller's own: no protection of one set from the readers of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Selector {
    /// All of them.
    #[default]
    All,
    /// Those of one source, by its address as configured.
    Source(String),
    /// Those of one set; empty for those without a set.
    FlagSet(String),
}

/// A selector with a key that means nothing. The text is flagd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid selector key \"{key}\", valid keys: \"flagSetId\", \"source\"")]
pub struct BadSelector {
    /// The key.
    pub key: String,
}

impl Selector {
    /// Reads `flagSetId=ID`, `source=ADDRESS`, or a bare address; nothing at all selects everything.
    ///
    /// # Errors
    /// When the key is another.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        if text.is_empty() {
            return Ok(Self::All);
        }
        match text.split_once('=') {
            None => Ok(Self::Source(text.to_owned())),
            Some((FLAG_SET_ID, id)) => Ok(Self::FlagSet(id.to_owned())),
            Some(("source", source)) => Ok(Self::Source(source.to_owned())),
            Some((key, _)) => Err(BadSelector {
                key: key.to_owned(),
            }),
        }
    }

    /// What is said of the selector in the metadata of answers.
    #[must_use]
    pub fn reflected(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::All => None,
            Self::Source(source) => Some(("source", source)),
            Self::FlagSet(id) => Some((FLAG_SET_ID, id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_and_one_value() {
        for (text, selector) in [
            ("", Selector::All),
            ("flags.json", Selector::Source("flags.json".into())),
            ("source=a=b", Selector::Source("a=b".into())),
            ("flagSetId=x", Selector::FlagSet("x".into())),
            ("flagSetId=", Selector::FlagSet(String::new())),
        ] {
            assert_eq!(Selector::parse(text), Ok(selector), "{text}");
        }
        assert_eq!(
            Selector::parse("x=1").unwrap_err().to_string(),
            r#"invalid selector key "x", valid keys: "flagSetId", "source""#
        );
    }
}
