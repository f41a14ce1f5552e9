//! Walks over JSON text without making values of it: where each member or item begins and ends.
//!
//! Only the marks between values are checked here. Whoever uses a value reads its piece with a parser, and then all of
//! the text has been.

/// A place in a text that moves on.
pub(super) struct Scanner<'t> {
    text: &'t str,
    pub(super) at: usize,
}

/// The members of the object that `text` is, with the text of their values; `None` if it is no object.
pub(super) fn members(text: &str) -> Option<Vec<(String, &str)>> {
    let mut members = Vec::new();
    let mut scanner = Scanner::new(text);
    scanner.skip(b'{')?;
    while scanner.peek() == Some(b'"') {
        let key = scanner.key()?;
        members.push((key, scanner.value()));
        if scanner.skip(b',').is_none() {
            break;
        }
        // Something has to come after a comma.
        (scanner.peek() == Some(b'"')).then_some(())?;
    }
    scanner.end(b'}')?;
    Some(members)
}

/// The items of the array that `text` is, each as text; `None` if it is no array.
pub(super) fn items(text: &str) -> Option<Vec<&str>> {
    let mut items = Vec::new();
    let mut scanner = Scanner::new(text);
    scanner.skip(b'[')?;
    while scanner.peek() != Some(b']') {
        items.push(scanner.value());
        if scanner.skip(b',').is_none() {
            break;
        }
        (scanner.peek() != Some(b']')).then_some(())?;
    }
    scanner.end(b']')?;
    Some(items)
}

impl<'t> Scanner<'t> {
    /// Before the first value of `text`.
    pub(super) fn new(text: &'t str) -> Self {
        let mut scanner = Self { text, at: 0 };
        scanner.space();
        scanner
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes past one mark and the space around it.
    pub(super) fn skip(&mut self, mark: u8) -> Option<()> {
        self.space();
        (self.peek() == Some(mark)).then(|| self.at += 1)?;
        self.space();
        Some(())
    }

    /// Goes past the last mark, after which there must be nothing.
    fn end(&mut self, mark: u8) -> Option<()> {
        self.skip(mark)?;
        self.peek().is_none().then_some(())
    }

    /// Goes past a member's key and the colon.
    pub(super) fn key(&mut self) -> Option<String> {
        let start = self.at;
        self.string();
        let key = serde_json::from_str(self.text.get(start..self.at)?).ok()?;
        self.skip(b':')?;
        Some(key)
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }

    /// Goes past one value, and gives its text.
    pub(super) fn value(&mut self) -> &'t str {
        let start = self.at;
        self.over();
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Without recursion: a text may be as deep as it likes.
    fn over(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    if depth == 0 {
                        return;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                b',' if depth == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_object_and_an_array_come_apart() {
        let text = " {\"a\\u0062\" : {\"x\": \"}\\\"\"} ,\n\"c\":1.5 , \"d\":[[],{}]} ";
        let apart = members(text).unwrap();
        let apart: Vec<(&str, &str)> = apart.iter().map(|(key, text)| (&**key, *text)).collect();
        let whole = [
            ("ab", "{\"x\": \"}\\\"\"}"),
            ("c", "1.5 "),
            ("d", "[[],{}]"),
        ];
        assert_eq!(apart, whole);
        assert_eq!(items("[ 1, \"],\" ,{} ]").unwrap(), ["1", "\"],\"", "{}"]);
        assert!(members("{ }").unwrap().is_empty() && items("[]").unwrap().is_empty());
    }

    /// What is taken apart and read piece by piece is JSON exactly if the whole is.
    #[test]
    fn no_bad_text_comes_apart() {
        let pieces = [
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "1", "tru", "\\", "\"", " ", "\u{c}",
            "ä",
        ];
        // Knuth's: the same texts each time.
        let mut random = 1_u64;
        let mut below = |bound: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % bound
        };
        let mut good = 0;
        for _ in 0..50_000 {
            let (open, close) = [("{", "}"), ("[", "]")][below(2)];
            let inner = (0..below(8)).map(|_| pieces[below(pieces.len())]);
            let text = format!("{open}{}{close}", inner.collect::<String>());
            let is_json = |text: &str| serde_json::from_str::<Value>(text).is_ok();
            let apart = match members(&text) {
                Some(members) => Some(members.into_iter().map(|(_, text)| text).collect()),
                None => items(&text),
            };
            let reads = apart.is_some_and(|apart: Vec<&str>| apart.into_iter().all(is_json));
            assert_eq!(reads, is_json(&text), "{text}");
            good += usize::from(reads);
        }
        assert!(good > 100, "only {good} were good");
    }
}
