//! Evaluates policies in three-valued (Kleene) logic and says in one line what decided. Pure: no clock, no look-up.
//!
//! Trap: "unknown" must survive `not`. If it became "no" anywhere, `not user:x` would admit whoever hides its uid.

use std::fmt;

use super::print::value;
use super::{Expression, Id, Policy};
use crate::fact::Fact;
use crate::peer::{LocalPeer, Peer};

/// How many terms, and how many of a caller's groups, a refusal lists.
const LISTED_TERMS_MAX: usize = 4;
const LISTED_GROUPS_MAX: usize = 16;

/// Yes, no, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truth {
    /// Definitely.
    Yes,
    /// Definitely not.
    No,
    /// A fact that would decide is unknown.
    Unknown,
}

/// What a policy says of a peer. Shown, it is one line for the log: which terms decided, and by which facts of the caller.
///
/// The line is not for the caller: it says what the policy asks for.
#[derive(Debug, Clone)]
#[must_use = "whoever is not admitted has to be refused"]
pub struct Verdict {
    truth: Truth,
    // Kept to explain itself only when shown: admitting takes no allocation.
    policy: Policy,
    peer: Peer,
}

impl Verdict {
    /// Whether the peer is let in: only on a definite yes.
    #[must_use]
    pub const fn admits(&self) -> bool {
        matches!(self.truth, Truth::Yes)
    }

    /// What the policy came to.
    #[must_use]
    pub const fn truth(&self) -> Truth {
        self.truth
    }
}

impl Policy {
    /// Decides about a peer.
    pub fn evaluate(&self, peer: &Peer) -> Verdict {
        Verdict {
            truth: self.0.truth(peer),
            policy: self.clone(),
            peer: peer.clone(),
        }
    }
}

impl Truth {
    /// No, if either is no; else unknown, if either is.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    /// Yes, if either is yes; else unknown, if either is.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Unknown,
        }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(yes: bool) -> Self {
        match yes {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

impl Expression {
    fn truth(&self, peer: &Peer) -> Truth {
        match self {
            Self::Not(inner) => !inner.truth(peer),
            Self::All(parts) => parts
                .iter()
                .fold(Truth::Yes, |truth, part| truth.and(part.truth(peer))),
            Self::Either(parts) => parts
                .iter()
                .fold(Truth::No, |truth, part| truth.or(part.truth(peer))),
            Self::Any => Truth::Yes,
            // Also "none": else "not none" would admit over TCP, which only "any" does.
            term => peer
                .as_local()
                .map_or(Truth::Unknown, |local| term.truth_of_term(local)),
        }
    }

    fn truth_of_term(&self, peer: &LocalPeer) -> Truth {
        match self {
            Self::SameUser { uid } | Self::User(Id { number: uid, .. }) => {
                same(peer.uid(), |known| known == uid)
            }
            Self::Group(id) => in_group(peer, id.number),
            Self::Label(label) => same(peer.label(), |known| known == label),
            Self::None => Truth::No,
            Self::Any | Self::Not(_) | Self::All(_) | Self::Either(_) => Truth::Unknown,
        }
    }
}

fn same<T>(fact: &Fact<T>, matches: impl FnOnce(&T) -> bool) -> Truth {
    fact.value()
        .map_or(Truth::Unknown, |known| matches(known).into())
}

/// A group that has no id here may be the one that was meant, so with one of them nothing is a definite no.
fn in_group(peer: &LocalPeer, gid: u32) -> Truth {
    let effective = same(peer.gid(), |known| *known == gid);
    let supplementary = same(peer.groups(), |known| known.contains(&gid));
    let unmapped = match peer.unmapped_groups() {
        0 => Truth::No,
        _ => Truth::Unknown,
    };
    effective.or(supplementary).or(unmapped)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut terms = Vec::new();
        self.policy
            .0
            .deciding(&self.peer, self.truth, false, &mut terms);
        f.write_str(match self.truth {
            Truth::Yes => "admitted: ",
            Truth::No => "refused: ",
            Truth::Unknown => "refused as unknown: ",
        })?;
        for (index, (term, negated)) in terms.iter().take(LISTED_TERMS_MAX).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let not = if *negated { "not " } else { "" };
            write!(f, "{separator}{not}{term}")?;
            term.explain(f, &self.peer)?;
        }
        match terms.len().saturating_sub(LISTED_TERMS_MAX) {
            0 => Ok(()),
            1 => f.write_str("; and 1 more term"),
            more => write!(f, "; and {more} more terms"),
        }
    }
}

impl Expression {
    /// Collects the terms that made the expression come to `truth`, and whether each stands under a `not`.
    fn deciding<'a>(
        &'a self,
        peer: &Peer,
        truth: Truth,
        negated: bool,
        into: &mut Vec<(&'a Self, bool)>,
    ) {
        // One "no" settles an "and", one "yes" an "or"; otherwise all that came to the same count.
        let (parts, one_settles) = match self {
            Self::Not(inner) => return inner.deciding(peer, !truth, !negated, into),
            Self::All(parts) => (parts, truth == Truth::No),
            Self::Either(parts) => (parts, truth == Truth::Yes),
            term => return into.push((term, negated)),
        };
        let same = parts.iter().filter(|part| part.truth(peer) == truth);
        for part in same.take(if one_settles { 1 } else { parts.len() }) {
            part.deciding(peer, truth, negated, into);
        }
    }

    /// The facts that this term looked at.
    fn explain(&self, f: &mut fmt::Formatter<'_>, peer: &Peer) -> fmt::Result {
        if matches!(self, Self::Any) {
            return Ok(());
        }
        let Some(local) = peer.as_local() else {
            return write!(f, ": the caller is no local process ({peer})");
        };
        match self {
            Self::SameUser { uid } => {
                write!(f, " (uid {uid}): the caller's uid is {}", local.uid())
            }
            Self::User(id) => {
                id.explain(f, "uid")?;
                write!(f, ": the caller's uid is {}", local.uid())
            }
            Self::Group(id) => {
                id.explain(f, "gid")?;
                write!(f, ": the caller's gid is {}, ", local.gid())?;
                groups(f, local)
            }
            Self::Label(_) => match local.label() {
                Fact::Known { value: label, .. } => {
                    f.write_str(": the caller's label is ")?;
                    value(f, label)
                }
                Fact::Unknown { source, why } => {
                    write!(f, ": the caller's label is unknown ({source}: {why})")
                }
            },
            _ => Ok(()),
        }
    }
}

impl Id {
    /// A name is followed by the id it stood for when the policy was made.
    fn explain(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        match self.name {
            Some(_) => write!(f, " ({kind} {})", self.number),
            None => Ok(()),
        }
    }
}

fn groups(f: &mut fmt::Formatter<'_>, peer: &LocalPeer) -> fmt::Result {
    match peer.groups() {
        Fact::Unknown { source, why } => write!(f, "its groups are unknown ({source}: {why})")?,
        Fact::Known { value, .. } if value.is_empty() => f.write_str("it has no other groups")?,
        Fact::Known { value, .. } => {
            f.write_str("its groups are")?;
            for gid in value.iter().take(LISTED_GROUPS_MAX) {
                write!(f, " {gid}")?;
            }
            if let more @ 1.. = value.len().saturating_sub(LISTED_GROUPS_MAX) {
                write!(f, " and {more} more")?;
            }
        }
    }
    match peer.unmapped_groups() {
        0 => Ok(()),
        unmapped => write!(f, ", {unmapped} more have no id here"),
    }
}
