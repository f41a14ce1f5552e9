//! Splits Rust text into what the compiler sees and what only people read, line by line.
//!
//! Trap: the rules must not stumble over a word in a string, so string contents are blanked; this is a scanner for
//! quotes and comments, not a parser, and knows nothing else of the language.

/// One line, split.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The code, without comments and with empty strings.
    pub(crate) code: String,
    /// The comment with its `//`, `///`, `//!` or inside of `/* */`.
    pub(crate) comment: String,
    /// Whether the line belongs to tests.
    pub(crate) test: bool,
}

#[derive(Clone, Copy)]
enum State {
    Code,
    /// In a string with this many `#` to close it; `None` is a string with escapes.
    Text(Option<usize>),
    LineComment,
    BlockComment(usize),
}

/// Splits a file. `is_test` says that the whole file is test code; else its `#[cfg(test)] mod` is, to the end.
pub(crate) fn split(text: &str, is_test: bool) -> Vec<Line> {
    let characters: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        if rest[0] == '\n' {
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let index = lines.len() - 1;
        let line = &mut lines[index];
        at += match state {
            State::Code => code(rest, line, &mut state),
            State::Text(hashes) => string(rest, hashes, line, &mut state),
            State::LineComment => {
                line.comment.push(rest[0]);
                1
            }
            State::BlockComment(depth) => block(rest, depth, line, &mut state),
        };
    }
    mark_tests(&mut lines, is_test);
    lines
}

/// Takes the next piece of code and returns its length.
fn code(rest: &[char], line: &mut Line, state: &mut State) -> usize {
    if starts(rest, "//") {
        *state = State::LineComment;
        return 0;
    }
    if starts(rest, "/*") {
        *state = State::BlockComment(1);
        return 2;
    }
    if let Some((length, hashes)) = opening(rest, &line.code) {
        line.code.push('"');
        *state = State::Text(hashes);
        return length;
    }
    if let Some(length) = character(rest) {
        line.code.push_str("' '");
        return length;
    }
    line.code.push(rest[0]);
    1
}

/// Length of a string's opening and the hashes that close it. `r`, `br` and `cr` begin a raw string only after a
/// character that ends no identifier.
fn opening(rest: &[char], before: &str) -> Option<(usize, Option<usize>)> {
    if rest[0] == '"' {
        return Some((1, None));
    }
    if rest[0] != 'r' || rest.len() < 2 {
        return None;
    }
    let word: String = before
        .chars()
        .rev()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    if !matches!(word.as_str(), "" | "b" | "c") {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    (rest.get(1 + hashes) == Some(&'"')).then_some((2 + hashes, Some(hashes)))
}

/// Length of a character literal; `None` for a lifetime.
fn character(rest: &[char]) -> Option<usize> {
    if rest[0] != '\'' {
        return None;
    }
    if rest.get(1) == Some(&'\\') {
        let close = rest.iter().skip(3).position(|c| *c == '\'')?;
        return Some(close + 4);
    }
    (rest.get(2) == Some(&'\'')).then_some(3)
}

fn string(rest: &[char], hashes: Option<usize>, line: &mut Line, state: &mut State) -> usize {
    match hashes {
        // The character after a backslash is part of the string, but a line's end must still be seen.
        None if rest[0] == '\\' => 1 + usize::from(rest.get(1).is_some_and(|c| *c != '\n')),
        None if rest[0] == '"' => {
            line.code.push('"');
            *state = State::Code;
            1
        }
        Some(count)
            if rest[0] == '"' && rest[1..].iter().take_while(|c| **c == '#').count() >= count =>
        {
            line.code.push('"');
            *state = State::Code;
            1 + count
        }
        _ => 1,
    }
}

fn block(rest: &[char], depth: usize, line: &mut Line, state: &mut State) -> usize {
    if starts(rest, "/*") {
        *state = State::BlockComment(depth + 1);
        return 2;
    }
    if starts(rest, "*/") {
        *state = if depth == 1 {
            State::Code
        } else {
            State::BlockComment(depth - 1)
        };
        return 2;
    }
    line.comment.push(rest[0]);
    1
}

fn starts(rest: &[char], with: &str) -> bool {
    with.chars().zip(rest).filter(|(a, b)| a == *b).count() == with.len()
}

/// Unit tests stand at the foot of their file: from `#[cfg(test)] mod` on, everything is test code.
fn mark_tests(lines: &mut [Line], is_test: bool) {
    let foot = lines.iter().enumerate().position(|(number, line)| {
        line.code.trim() == "#[cfg(test)]"
            && lines[number + 1..]
                .iter()
                .map(|line| line.code.trim())
                .find(|code| !code.is_empty() && !code.starts_with('#'))
                .is_some_and(|code| code.starts_with("mod ") && code.ends_with('{'))
    });
    for (number, line) in lines.iter_mut().enumerate() {
        line.test = is_test || foot.is_some_and(|foot| number >= foot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<String> {
        split(text, false)
            .into_iter()
            .map(|line| line.code)
            .collect()
    }

    #[test]
    fn strings_and_comments_are_no_code() {
        let text =
            "let a = \"unsafe // no\"; // unsafe\nlet b = r#\"x\"unsafe\"#;/* a /* b */ c */d";
        assert_eq!(codes(text), ["let a = \"\"; ", "let b = \"\";d"]);
        let lines = split(text, false);
        assert_eq!(lines[0].comment, "// unsafe");
        assert_eq!(lines[1].comment, " a  b  c ");
    }

    #[test]
    fn strings_span_lines_and_escapes_do_not_end_them() {
        assert_eq!(codes("a(\"x\\\"y\nz\\\n\") b"), ["a(\"", "", "\") b"]);
        assert_eq!(codes("b\"\\\\\" c"), ["b\"\" c"]);
    }

    #[test]
    fn lifetimes_are_no_characters() {
        assert_eq!(
            codes("fn f<'a>(c: &'a str) { '\"'; '\\''; '\\u{1f}' }"),
            ["fn f<'a>(c: &'a str) { ' '; ' '; ' ' }"]
        );
        assert_eq!(codes("for\"x\"").len(), 1);
    }

    #[test]
    fn the_foot_of_a_file_is_test_code() {
        let lines = split("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n", false);
        let tests: Vec<bool> = lines.iter().map(|line| line.test).collect();
        assert_eq!(tests, [false, true, true, true, true]);
        let lines = split("#[cfg(test)]\nuse x;\n", false);
        assert!(lines.iter().all(|line| !line.test));
    }
}
