//! What is wrong with a policy, where in its text, and what to write instead.

use std::fmt;

use super::{POLICY_BYTES_MAX, POLICY_DEPTH_MAX};
use crate::users::UserError;

/// How much of a refused text a message repeats, in characters: a message is one line.
const QUOTED_CHARACTERS_MAX: usize = 200;

/// A policy that is none: malformed text, or a name that nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The text and the byte offset that is blamed; none for a policy that was put together in code.
    place: Option<(String, usize)>,
    fault: PolicyFault,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFault {
    /// Nothing was given.
    #[error("nothing is written: whom it admits has to be said")]
    Empty,
    /// More text than is read.
    #[error("it has {bytes} bytes, the limit is {POLICY_BYTES_MAX}")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// More parentheses and `not` inside each other than are read.
    #[error("it is nested deeper than {POLICY_DEPTH_MAX} levels")]
    TooDeep,
    /// A word that is no term.
    #[error("{word:?} is no term")]
    UnknownTerm {
        /// The word.
        word: String,
    },
    /// A term, `not` or a parenthesis has to stand here.
    #[error("a term is missing")]
    NoTerm,
    /// A term that takes a value has none.
    #[error("the value is missing behind {term:?}")]
    NoValue {
        /// The term, with its colon.
        term: &'static str,
    },
    /// Something stands where only `and`, `or` or the end can.
    #[error("\"and\", \"or\" or the end is missing")]
    NoOperator,
    /// A parenthesis that is never closed.
    #[error("the parenthesis is never closed")]
    UnclosedParenthesis,
    /// A closing parenthesis without an opening one.
    #[error("the parenthesis was never opened")]
    UnopenedParenthesis,
    /// A quote that is never closed.
    #[error("the quote is never closed")]
    UnclosedQuote,
    /// A backslash with something behind it that is no escape.
    #[error("the escape is none of \\\\ \\\" \\' \\n \\r \\t \\0 \\xHH")]
    BadEscape,
    /// A user or group name that is not UTF-8.
    #[error("the name is not UTF-8")]
    NameNotUtf8,
    /// The user or group could not be had.
    #[error("{0}")]
    User(UserError),
}

impl PolicyError {
    pub(super) fn new(text: &str, at: usize, fault: PolicyFault) -> Self {
        Self {
            place: Some((text.to_owned(), at)),
            fault,
        }
    }

    /// What is wrong.
    #[must_use]
    pub const fn fault(&self) -> &PolicyFault {
        &self.fault
    }

    /// The text that was refused; `None` for a policy that was put together in code.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.place.as_ref().map(|(text, _)| text.as_str())
    }

    /// The column that is blamed: characters, from one.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        let (text, at) = self.place.as_ref()?;
        let before = text.char_indices().take_while(|(index, _)| index < at);
        Some(before.count() + 1)
    }

    /// What to write or do instead.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match &self.fault {
            PolicyFault::Empty | PolicyFault::UnknownTerm { .. } | PolicyFault::NoTerm => {
                "terms are same-user, user:NAME, group:NAME, label:TEXT, any and none, combined with not, and, or"
            }
            PolicyFault::NoValue { .. } => {
                "write the value right behind the colon, in quotes if it has spaces"
            }
            PolicyFault::NoOperator => "combine terms with \"and\" or \"or\"",
            PolicyFault::User(error) => return error.hint(),
            _ => return None,
        })
    }
}

impl From<UserError> for PolicyError {
    fn from(error: UserError) -> Self {
        Self {
            place: None,
            fault: PolicyFault::User(error),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((text, _)) = &self.place else {
            return self.fault.fmt(f);
        };
        match text.char_indices().nth(QUOTED_CHARACTERS_MAX) {
            None => write!(f, "policy {text:?}: {}", self.fault)?,
            Some((end, _)) => write!(f, "policy {:?}…: {}", &text[..end], self.fault)?,
        }
        match self.column() {
            Some(column) if !text.is_empty() => write!(f, " (character {column})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for PolicyError {}
