//! Cuts a stream of text into JSON values as it arrives. Pure.
//!
//! A cut is made at the end of a line outside of every bracket and string, so that one value per line works at once, and a value
//! may also be spread over lines. What is between two cuts is left to the JSON parser, which also finds the errors.

/// The text since the last cut and where it stands.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    text: Vec<u8>,
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    /// Adds a line, with its line feed if it has one; gives what is complete now.
    pub(crate) fn push(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        for &byte in line {
            self.step(byte);
        }
        self.text.extend_from_slice(line);
        if self.depth == 0 && !self.in_string {
            self.finish()
        } else {
            None
        }
    }

    /// Bytes that wait for the rest of their value.
    pub(crate) fn pending(&self) -> usize {
        self.text.len()
    }

    /// What is left at the end of the input, complete or not.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let text = std::mem::take(&mut self.text);
        let blank = text.iter().all(u8::is_ascii_whitespace);
        (!blank).then_some(text)
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            // One too many is the parser's to report.
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(text: &str) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut cuts: Vec<_> = text
            .split_inclusive('\n')
            .filter_map(|line| splitter.push(line.as_bytes()))
            .collect();
        cuts.extend(splitter.finish());
        cuts.into_iter()
            .map(|cut| String::from_utf8(cut).unwrap().trim().to_owned())
            .collect()
    }

    #[test]
    fn one_value_per_line_or_over_lines() {
        for (text, expected) in [
            ("", vec![]),
            (" \n\n", vec![]),
            ("{}", vec!["{}"]),
            ("{}\n{}\n", vec!["{}", "{}"]),
            ("{}{}\n", vec!["{}{}"]),
            ("{\n\"a\":\n1}\n[]\n", vec!["{\n\"a\":\n1}", "[]"]),
            ("{\"a\":\"}\\\"{\"}\n1\n", vec!["{\"a\":\"}\\\"{\"}", "1"]),
            ("}\n{}\n", vec!["}", "{}"]),
            ("{\"a\n", vec!["{\"a"]),
            ("true\nnull\n", vec!["true", "null"]),
        ] {
            assert_eq!(cuts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_complete_line_is_given_at_once() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"{\"a\": 1,\n"), None);
        assert_eq!(splitter.pending(), 9);
        assert!(splitter.push(b"\"b\": 2}\n").is_some());
        assert_eq!(splitter.pending(), 0);
        assert!(splitter.push(b"{}\n").is_some());
    }
}
