//! Who is let in: terms about a peer, combined with not, and, or. Names are resolved once, when a policy is made.
//!
//! Trap: flattening keeps chains of the same operator in one list, so that a long policy is wide, not deep.

mod error;
mod eval;
mod parse;
mod print;

use std::ops::Not;
use std::str::FromStr;
use std::sync::Arc;

pub use error::{PolicyError, PolicyFault};
pub use eval::{Truth, Verdict};

use crate::users::{self, UserError};

/// The longest policy text in bytes: hundreds of terms; each name in it is a look-up when it is loaded.
pub const POLICY_BYTES_MAX: usize = 16 * 1024;

/// The deepest nesting of parentheses and `not` in a policy's text.
pub const POLICY_DEPTH_MAX: usize = 32;

/// Decides which peers are admitted. Pure, and cheap to clone.
///
/// ```text
/// policy = and-policy { "or" and-policy }
/// and-policy = not-policy { "and" not-policy }
/// not-policy = "not" not-policy | "(" policy ")" | term
/// term   = "same-user"              the effective uid this process had when the policy was made
///        | "user:" value            a user's name or uid: the peer's effective uid
///        | "group:" value           a group's name or gid: the peer's effective gid or a supplementary group
///        | "label:" value           the peer's security label, all of it
///        | "any" | "none"           everybody, nobody
/// value  = word without spaces, quotes, parentheses and backslashes
///        | '"' text '"' | "'" text "'"     escapes: \\ \" \' \n \r \t \0 \xHH
/// ```
///
/// A value of digits only is an id. Printing and parsing are inverse, for policies of at most [`POLICY_BYTES_MAX`] bytes
/// and [`POLICY_DEPTH_MAX`] levels, which is what parsing takes.
///
/// Terms are three-valued: what the kernel does not tell of a peer makes its term unknown, `not unknown` is unknown, and
/// only a definite yes admits. `any` admits unknown callers too, also over TCP and TLS; every other term is unknown for
/// those. Uid 0 gets no exception. Ids that stand for "no id here" (-1, the overflow id 65534) match nobody, not even a
/// process of user `nobody`.
///
/// ```
/// use nigh_socket::{Peer, Policy};
///
/// let policy: Policy = "same-user or group:27 and not user:root".parse()?;
/// assert_eq!(policy, Policy::same_user().or(Policy::gid(27).and(!Policy::user("root")?)));
///
/// // Nothing is known of a caller over TCP, so this policy cannot say yes.
/// let verdict = policy.evaluate(&Peer::remote(([192, 0, 2, 1], 4242).into()));
/// assert!(!verdict.admits());
/// println!("{verdict}");
/// # Ok::<(), nigh_socket::PolicyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a policy decides nothing until it is given to a listener, a client or a guard"]
pub struct Policy(Arc<Expression>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Any,
    None,
    SameUser {
        uid: u32,
    },
    User(Id),
    Group(Id),
    Label(Vec<u8>),
    Not(Box<Self>),
    /// Two or more, none of them `All`.
    All(Vec<Self>),
    /// Two or more, none of them `Either`.
    Either(Vec<Self>),
}

/// An id, and the name it was given by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Id {
    number: u32,
    name: Option<String>,
}

impl Policy {
    /// Admits everybody, known or not, also over TCP and TLS.
    pub fn any() -> Self {
        Expression::Any.into()
    }

    /// Admits nobody.
    pub fn none() -> Self {
        Expression::None.into()
    }

    /// Admits processes with the effective uid that this process has now.
    pub fn same_user() -> Self {
        Expression::same_user().into()
    }

    /// Admits processes with this effective uid.
    pub fn uid(uid: u32) -> Self {
        Expression::User(uid.into()).into()
    }

    /// Admits processes of a user, given by name or as digits. The name is looked up now and never again.
    ///
    /// # Errors
    /// When there is no such user, or its databases cannot be asked.
    pub fn user(user: &str) -> Result<Self, PolicyError> {
        let id = Id::resolve(user, users::uid_of)?;
        Ok(Expression::User(id).into())
    }

    /// Admits processes with this effective gid or supplementary group.
    pub fn gid(gid: u32) -> Self {
        Expression::Group(gid.into()).into()
    }

    /// Admits processes in a group, given by name or as digits: by effective gid or as a supplementary group that the
    /// process really has, whatever the group database says of its user. The name is looked up now and never again.
    ///
    /// # Errors
    /// When there is no such group, or its databases cannot be asked.
    pub fn group(group: &str) -> Result<Self, PolicyError> {
        let id = Id::resolve(group, users::gid_of)?;
        Ok(Expression::Group(id).into())
    }

    /// Admits processes with exactly this security label. Labels need not be UTF-8.
    pub fn label(label: impl Into<Vec<u8>>) -> Self {
        Expression::Label(label.into()).into()
    }

    /// Admits whom both admit.
    pub fn and(self, other: Self) -> Self {
        let parts = vec![self.into_expression(), other.into_expression()];
        Expression::all(parts).into()
    }

    /// Admits whom either admits.
    pub fn or(self, other: Self) -> Self {
        let parts = vec![self.into_expression(), other.into_expression()];
        Expression::either(parts).into()
    }

    fn into_expression(self) -> Expression {
        Arc::unwrap_or_clone(self.0)
    }
}

/// Admits whom the policy definitely does not admit; whoever is unknown to it stays out of both.
impl Not for Policy {
    type Output = Self;

    fn not(self) -> Self {
        Expression::Not(Box::new(self.into_expression())).into()
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        parse::policy(text, &parse::System).map(Self::from)
    }
}

impl From<Expression> for Policy {
    fn from(expression: Expression) -> Self {
        Self(Arc::new(expression))
    }
}

impl Expression {
    fn same_user() -> Self {
        let uid = users::effective_uid();
        Self::SameUser { uid }
    }

    /// All of these; a single one stays what it is, and what is `All` already is opened.
    fn all(parts: Vec<Self>) -> Self {
        let flat = flatten(parts, |part| match part {
            Self::All(inner) => Ok(inner),
            other => Err(other),
        });
        flat.map_or_else(|single| single, Self::All)
    }

    /// One of these, likewise.
    fn either(parts: Vec<Self>) -> Self {
        let flat = flatten(parts, |part| match part {
            Self::Either(inner) => Ok(inner),
            other => Err(other),
        });
        flat.map_or_else(|single| single, Self::Either)
    }
}

/// Opens the parts that `open` can open, or returns the one part there is.
fn flatten(
    parts: Vec<Expression>,
    open: impl Fn(Expression) -> Result<Vec<Expression>, Expression>,
) -> Result<Vec<Expression>, Expression> {
    let mut flat = Vec::new();
    for part in parts {
        match open(part) {
            // A chain grown one by one keeps its list.
            Ok(inner) if flat.is_empty() => flat = inner,
            Ok(inner) => flat.extend(inner),
            Err(other) => flat.push(other),
        }
    }
    match flat.pop() {
        Some(single) if flat.is_empty() => Err(single),
        last => {
            flat.extend(last);
            Ok(flat)
        }
    }
}

impl Id {
    /// Digits are an id and have no name.
    fn resolve(
        text: &str,
        lookup: impl FnOnce(&str) -> Result<u32, UserError>,
    ) -> Result<Self, UserError> {
        if users::is_id(text) {
            return match text.parse::<u32>() {
                Ok(number) => Ok(number.into()),
                Err(_) => Err(UserError::IdOutOfRange { text: text.into() }),
            };
        }
        Ok(Self {
            number: lookup(text)?,
            name: Some(text.into()),
        })
    }
}

impl From<u32> for Id {
    fn from(number: u32) -> Self {
        Self { number, name: None }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
