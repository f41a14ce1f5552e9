//! Reads the text form of policies. Pure but for the look-up of names, which is a parameter.
//!
//! Trap: `not` and parentheses are read by recursion, so the depth is counted and bounded before each descent.

use super::{Expression, Id, POLICY_BYTES_MAX, POLICY_DEPTH_MAX, PolicyError, PolicyFault};
use crate::users::{self, UserError};

/// Where names are looked up.
pub(super) trait Names {
    fn uid_of(&self, user: &str) -> Result<u32, UserError>;
    fn gid_of(&self, group: &str) -> Result<u32, UserError>;
}

/// This machine's databases.
pub(super) struct System;

impl Names for System {
    fn uid_of(&self, user: &str) -> Result<u32, UserError> {
        users::uid_of(user)
    }

    fn gid_of(&self, group: &str) -> Result<u32, UserError> {
        users::gid_of(group)
    }
}

/// A fault and the byte offset it is at.
type Fault = (usize, PolicyFault);

pub(super) fn policy(text: &str, names: &impl Names) -> Result<Expression, PolicyError> {
    let mut parser = Parser { text, at: 0, names };
    parser
        .whole()
        .map_err(|(at, fault)| PolicyError::new(text, at, fault))
}

struct Parser<'a, N> {
    text: &'a str,
    /// A byte offset, always at a character's start.
    at: usize,
    names: &'a N,
}

impl<'a, N: Names> Parser<'a, N> {
    fn whole(&mut self) -> Result<Expression, Fault> {
        let bytes = self.text.len();
        if bytes > POLICY_BYTES_MAX {
            return Err((0, PolicyFault::TooLong { bytes }));
        }
        self.skip_space();
        if self.at == bytes {
            return Err((0, PolicyFault::Empty));
        }
        let policy = self.either(0)?;
        match self.peek() {
            None => Ok(policy),
            Some(')') => Err((self.at, PolicyFault::UnopenedParenthesis)),
            Some(_) => Err((self.at, PolicyFault::NoOperator)),
        }
    }

    fn either(&mut self, depth: usize) -> Result<Expression, Fault> {
        let mut parts = vec![self.all(depth)?];
        while self.eat_word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(Expression::either(parts))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, Fault> {
        let mut parts = vec![self.negated(depth)?];
        while self.eat_word("and") {
            parts.push(self.negated(depth)?);
        }
        Ok(Expression::all(parts))
    }

    fn negated(&mut self, depth: usize) -> Result<Expression, Fault> {
        let start = self.at;
        let opens = self.peek() == Some('(');
        if !opens && !self.eat_word("not") {
            return self.term();
        }
        if depth == POLICY_DEPTH_MAX {
            return Err((start, PolicyFault::TooDeep));
        }
        if !opens {
            let inner = self.negated(depth + 1)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        self.advance('('.len_utf8());
        let inner = self.either(depth + 1)?;
        match self.peek() {
            Some(')') => self.advance(')'.len_utf8()),
            None => return Err((start, PolicyFault::UnclosedParenthesis)),
            Some(_) => return Err((self.at, PolicyFault::NoOperator)),
        }
        Ok(inner)
    }

    fn term(&mut self) -> Result<Expression, Fault> {
        let start = self.at;
        let word = self.word();
        let behind = start + word.len();
        let value_follows = self.text[behind..].starts_with(':');
        let simple = match word {
            "" | "and" | "or" if !value_follows => return Err((start, PolicyFault::NoTerm)),
            "any" => Expression::Any,
            "none" => Expression::None,
            "same-user" => Expression::same_user(),
            "user" | "group" | "label" if value_follows => {
                self.at = behind + 1;
                return self.term_with_value(word);
            }
            "user" => return Err((behind, PolicyFault::NoValue { term: "user:" })),
            "group" => return Err((behind, PolicyFault::NoValue { term: "group:" })),
            "label" => return Err((behind, PolicyFault::NoValue { term: "label:" })),
            _ => return Err((start, self.unknown(word))),
        };
        if value_follows {
            return Err((start, self.unknown(word)));
        }
        self.advance(word.len());
        Ok(simple)
    }

    fn unknown(&self, word: &str) -> PolicyFault {
        let colon = self.rest()[word.len()..].starts_with(':');
        let word = &self.rest()[..word.len() + usize::from(colon)];
        PolicyFault::UnknownTerm { word: word.into() }
    }

    fn term_with_value(&mut self, word: &str) -> Result<Expression, Fault> {
        let start = self.at;
        let no_value = |term| (start, PolicyFault::NoValue { term });
        match word {
            "user" => {
                let name = self.name(no_value("user:"))?;
                match Id::resolve(&name, |name| self.names.uid_of(name)) {
                    Ok(id) => Ok(Expression::User(id)),
                    Err(error) => Err((start, PolicyFault::User(error))),
                }
            }
            "group" => {
                let name = self.name(no_value("group:"))?;
                match Id::resolve(&name, |name| self.names.gid_of(name)) {
                    Ok(id) => Ok(Expression::Group(id)),
                    Err(error) => Err((start, PolicyFault::User(error))),
                }
            }
            _ => Ok(Expression::Label(self.value(no_value("label:"))?)),
        }
    }

    fn name(&mut self, missing: Fault) -> Result<String, Fault> {
        let start = self.at;
        let bytes = self.value(missing)?;
        String::from_utf8(bytes).map_err(|_| (start, PolicyFault::NameNotUtf8))
    }

    /// A bare or a quoted value; `missing` if there is neither.
    fn value(&mut self, missing: Fault) -> Result<Vec<u8>, Fault> {
        let rest = self.rest();
        if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            return self.quoted(quote);
        }
        let end = rest.find(|c: char| c.is_whitespace() || is_special(c));
        let bare = &rest[..end.unwrap_or(rest.len())];
        if bare.is_empty() {
            return Err(missing);
        }
        self.advance(bare.len());
        Ok(bare.as_bytes().to_vec())
    }

    fn quoted(&mut self, quote: char) -> Result<Vec<u8>, Fault> {
        let start = self.at;
        let mut value = Vec::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            if character == quote {
                self.advance(index + quote.len_utf8());
                return Ok(value);
            }
            if character != '\\' {
                value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            let bad = (start + index, PolicyFault::BadEscape);
            value.push(match characters.next() {
                Some((_, literal @ ('\\' | '"' | '\''))) => literal as u8,
                Some((_, 'n')) => b'\n',
                Some((_, 'r')) => b'\r',
                Some((_, 't')) => b'\t',
                Some((_, '0')) => 0,
                Some((_, 'x')) => {
                    let mut digit = || characters.next()?.1.to_digit(16);
                    let (Some(high), Some(low)) = (digit(), digit()) else {
                        return Err(bad);
                    };
                    u8::try_from(high << 4 | low).map_err(|_| bad)?
                }
                Some(_) | None => return Err(bad),
            });
        }
        Err((start, PolicyFault::UnclosedQuote))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next character; space before it is always skipped already.
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The word that begins here, perhaps empty.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| c == ':' || c.is_whitespace() || is_special(c));
        &rest[..end.unwrap_or(rest.len())]
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.word() == word && !self.rest()[word.len()..].starts_with(':');
        if found {
            self.advance(word.len());
        }
        found
    }

    /// Goes on behind `bytes` bytes and the space that follows them.
    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.skip_space();
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }
}

/// What ends a bare value and a word.
fn is_special(character: char) -> bool {
    matches!(character, '(' | ')' | '"' | '\'' | '\\')
}
