//! What the command prints: tables and colours for people, JSON for programs, and nothing that a server could abuse.
//!
//! Trap: text from elsewhere (names, status messages) may hold terminal controls; it goes through `visible`.

use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

/// How to write to one of the standard streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    colour: bool,
    terminal: bool,
}

impl Manner {
    /// For standard output.
    pub(crate) fn stdout(when: When) -> Self {
        Self::new(when, io::stdout().is_terminal())
    }

    /// For standard error.
    pub(crate) fn stderr(when: When) -> Self {
        Self::new(when, io::stderr().is_terminal())
    }

    fn new(when: When, terminal: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = match when {
            When::Auto => terminal && wanted,
            When::Always => true,
            When::Never => false,
        };
        Self { colour, terminal }
    }

    /// Whether to colour.
    pub(crate) fn has_colour(self) -> bool {
        self.colour
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// `text` in `style`, if there is colour.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if !self.colour || style == Style::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", style.code())
    }

    /// Rows under headings, in columns as wide as their widest cell.
    pub(crate) fn table(self, headings: &[&str], rows: &[Vec<Cell>]) -> String {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let cells = cells.map(|cell| cell.text.chars().count());
            cells
                .chain([headings[column].chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let headings: Vec<Cell> = headings
            .iter()
            .map(|heading| Cell::new(Style::Strong, *heading))
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(rows) {
            let mut line = String::new();
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&widths) {
                line.extend(std::iter::repeat_n(' ', gap));
                line.push_str(&self.paint(cell.style, &cell.text));
                gap = width - cell.text.chars().count() + 2;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// One cell of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    style: Style,
    text: String,
}

impl Cell {
    pub(crate) fn new(style: Style, text: impl AsRef<str>) -> Self {
        Self {
            style,
            text: visible(text.as_ref()),
        }
    }

    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(Style::Plain, text)
    }
}

/// `text` with its control characters and direction marks written out.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// JSON for a terminal: what JSON leaves as it is and a terminal would obey is escaped as JSON escapes.
pub(crate) fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unseen(c) && c != '\n' {
            // All of them are in the basic plane, and inside strings.
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

fn is_unseen(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// Writes `text` to standard output at once.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a line of JSON to standard output at once.
pub(crate) fn print_json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    print(&text)
}

/// Writes a remark to standard error; that it cannot be written is nobody's concern.
pub(crate) fn note(when: When, text: &str) {
    let text = Manner::stderr(when).paint(Style::Faint, &visible(text));
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Manner = Manner {
        colour: false,
        terminal: false,
    };
    const COLOUR: Manner = Manner {
        colour: true,
        terminal: true,
    };

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let rows = [
            vec![
                Cell::plain("a"),
                Cell::new(Style::Bad, "longer"),
                Cell::plain("x"),
            ],
            vec![Cell::plain("bbb"), Cell::plain(""), Cell::plain("")],
        ];
        let table = PLAIN.table(&["one", "two", "three"], &rows);
        assert_eq!(table, "one  two     three\na    longer  x\nbbb\n");
        let colour = COLOUR.table(&["one", "two", "three"], &rows);
        assert!(colour.contains("\x1b[31mlonger\x1b[0m  x\n"), "{colour:?}");
    }

    #[test]
    fn controls_are_written_out() {
        let json = "{\n  \"a\": \"\u{9b}31m\u{202e}ü\"\n}";
        assert_eq!(visible_json(json), "{\n  \"a\": \"\\u009b31m\\u202eü\"\n}");
        assert_eq!(visible("a\x1b[31m\u{202e}ü\n"), "a\\u{1b}[31m\\u{202e}ü\\n");
    }
}
