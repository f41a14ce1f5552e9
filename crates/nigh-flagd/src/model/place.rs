//! Finds line and column of a value in JSON text. Runs only when something is wrong, so loading pays nothing.

use std::fmt;

use super::scan::Scanner;

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The member of this name.
    Member(String),
    /// The item of this number, from 0.
    Item(usize),
}

/// A place in a text. Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The place of byte `offset` of `text`.
pub(super) fn of_offset(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// Where the value at `path` begins in the JSON `text`, or the last value on the way that is there.
pub(super) fn in_json(text: &str, path: &[Step]) -> Place {
    let mut scanner = Scanner::new(text);
    let mut found = scanner.at;
    for step in path {
        let entered = match step {
            Step::Member(name) => enter_member(&mut scanner, name),
            Step::Item(index) => enter_item(&mut scanner, *index),
        };
        match entered {
            Some(()) => found = scanner.at,
            None => break,
        }
    }
    of_offset(text, found)
}

/// Goes to the value of the last member called `name`, which is the one that counts.
fn enter_member(scanner: &mut Scanner<'_>, name: &str) -> Option<()> {
    scanner.skip(b'{')?;
    let mut found = None;
    while scanner.peek() == Some(b'"') {
        if scanner.key()? == name {
            found = Some(scanner.at);
        }
        scanner.value();
        if scanner.skip(b',').is_none() {
            break;
        }
    }
    scanner.at = found?;
    Some(())
}

fn enter_item(scanner: &mut Scanner<'_>, index: usize) -> Option<()> {
    scanner.skip(b'[')?;
    for _ in 0..index {
        scanner.value();
        scanner.skip(b',')?;
    }
    (scanner.peek()? != b']').then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "{\n  \"a\": [1, {\"ä\": \"x]}\", \"b\": tru}],\n\"c\\u0064\": {\"e\": {}}, \"a\": 3}";

    fn at(path: &[Step]) -> (usize, usize) {
        let place = in_json(TEXT, path);
        (place.line, place.column)
    }

    #[test]
    fn values_are_found_by_their_path() {
        let member = |name: &str| Step::Member(name.into());
        assert_eq!(at(&[]), (1, 1));
        assert_eq!(at(&[member("a")]), (3, 28), "the last of two counts");
        assert_eq!(at(&[member("cd")]), (3, 12));
        assert_eq!(at(&[member("cd"), member("e")]), (3, 18));
        assert_eq!(at(&[member("cd"), member("gone")]), (3, 12));
        let inner = &TEXT[9..];
        let place = in_json(inner, &[Step::Item(1), member("b")]);
        assert_eq!((place.line, place.column), (1, 23));
    }
}
