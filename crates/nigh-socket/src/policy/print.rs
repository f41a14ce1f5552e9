//! The text form of policies: parentheses only where they are needed, quotes only where a value is no plain word.

use std::fmt::{self, Write};

use super::{Expression, Id, Policy};

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::None => f.write_str("none"),
            Self::SameUser { .. } => f.write_str("same-user"),
            Self::User(id) => id.print(f, "user:"),
            Self::Group(id) => id.print(f, "group:"),
            Self::Label(label) => {
                f.write_str("label:")?;
                value(f, label)
            }
            Self::Not(inner) => {
                f.write_str("not ")?;
                let chain = matches!(**inner, Self::All(_) | Self::Either(_));
                inside(f, inner, chain)
            }
            Self::All(parts) => separated(f, parts, " and "),
            Self::Either(parts) => separated(f, parts, " or "),
        }
    }
}

impl Id {
    fn print(&self, f: &mut fmt::Formatter<'_>, term: &str) -> fmt::Result {
        f.write_str(term)?;
        match &self.name {
            Some(name) => value(f, name.as_bytes()),
            None => write!(f, "{}", self.number),
        }
    }
}

fn separated(f: &mut fmt::Formatter<'_>, parts: &[Expression], operator: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        // "and" binds closer than "or"; within either list, the same operator does not occur again.
        let looser = operator == " and " && matches!(part, Expression::Either(_));
        inside(f, part, looser)?;
    }
    Ok(())
}

fn inside(f: &mut fmt::Formatter<'_>, part: &Expression, parentheses: bool) -> fmt::Result {
    match parentheses {
        true => write!(f, "({part})"),
        false => write!(f, "{part}"),
    }
}

/// A value as it is where it is a plain word, else in quotes with everything unseen escaped.
pub(super) fn value(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.@:+/,=$".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return bytes
            .iter()
            .try_for_each(|byte| f.write_char((*byte).into()));
    }
    f.write_char('"')?;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                // The standard library's table of what can be printed; it also escapes the two above and this one.
                seen if seen == '\'' || seen.escape_debug().len() == 1 => f.write_char(seen)?,
                unseen => hex(f, unseen.encode_utf8(&mut [0; 4]).as_bytes())?,
            }
        }
        hex(f, chunk.invalid())?;
    }
    f.write_char('"')
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}
