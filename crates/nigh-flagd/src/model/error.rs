//! What is wrong with a set of flags, and where.

use std::fmt;

use super::place::Place;

/// A set of flags that cannot be used; whoever had an earlier one keeps it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct LoadError {
    /// Where in the text.
    pub place: Place,
    /// What.
    pub fault: Fault,
}

impl LoadError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.fault {
            Fault::Empty => "write {\"flags\": {}} if there are to be no flags",
            Fault::NoDefault { .. } => "name one of the variants, or leave defaultVariant out",
            Fault::RefsTooLarge => "look for $evaluators that refer to each other many times",
            _ => return None,
        })
    }
}

/// What makes a set of flags unusable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is nothing: most often a file that is being written.
    #[error("it is empty")]
    Empty,
    /// The text is no JSON or YAML.
    #[error("{0}")]
    Syntax(String),
    /// Something is of another type.
    #[error("{subject} is {found}, not {wanted}")]
    Type {
        /// What it is about.
        subject: String,
        /// What it should be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// There is no `flags`.
    #[error("it has no \"flags\"")]
    NoFlags,
    /// A flag of the array form has no `key`.
    #[error("flag number {index} has no \"key\"")]
    NoKey {
        /// Counted from 1.
        index: usize,
    },
    /// The default variant does not exist.
    #[error("flag {key:?}: the default variant {variant:?} is not among its variants")]
    NoDefault {
        /// The flag.
        key: String,
        /// The variant.
        variant: String,
    },
    /// Shared rules make up more than can be meant.
    #[error("the shared rules ($evaluators) grow too large when they are put in")]
    RefsTooLarge,
    /// More bytes than are read.
    #[error("it has more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

/// Something odd that does not stop anybody.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Where in the text.
    pub place: Place,
    /// What.
    pub warning: Warning,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.warning)
    }
}

/// What is odd.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// `state` is neither of the two words, and so counts as enabled.
    #[error("flag {key:?}: state {state} is neither ENABLED nor DISABLED; it counts as ENABLED")]
    State {
        /// The flag.
        key: String,
        /// What is there.
        state: String,
    },
    /// A flag without variants has no value to give.
    #[error("flag {key:?} has no variants")]
    NoVariants {
        /// The flag.
        key: String,
    },
    /// A flag's values are of several types, and no caller can ask for all of them.
    #[error("flag {key:?}: its variants are of several types")]
    MixedVariants {
        /// The flag.
        key: String,
    },
    /// No caller can ask for this value.
    #[error("flag {key:?}: variant {variant:?} is {found}, which no caller can ask for")]
    Unaskable {
        /// The flag.
        key: String,
        /// The variant.
        variant: String,
        /// What it is.
        found: &'static str,
    },
    /// A rule cannot be run: the flag answers with a parse error.
    #[error("flag {key:?}: its targeting cannot be run: {reason}")]
    Rule {
        /// The flag.
        key: String,
        /// What the rule engine says.
        reason: String,
    },
    /// A shared rule is not there: the flag answers with a parse error.
    #[error("there is no shared rule {name:?} in $evaluators")]
    NoEvaluator {
        /// The rule.
        name: String,
    },
    /// Two flags of the array form are the same one; the last wins.
    #[error("flag {key:?} is there twice; the last one counts")]
    Twice {
        /// The flag.
        key: String,
    },
    /// A member that means nothing.
    #[error("flag {key:?}: unknown member {member:?}")]
    Unknown {
        /// The flag.
        key: String,
        /// The member.
        member: String,
    },
}
