//! The rules for source files: what each may hold, and where.

use super::source::{self, Line};
use super::{File, Finding};

/// Lines in a file; longer files hide two roles.
const FILE_LINES_MAX: usize = 500;

/// Files that may be longer, each with its limit and reason.
const LONGER: [(&str, usize, &str); 0] = [];

/// The only place for `unsafe`.
const UNSAFE_HOME: &str = "crates/nigh-socket/src/sys/";

/// Files or folders that know no runtime, no clock and no socket, so that they can be tested and fuzzed by value.
pub(super) const PURE: &[&str] = &[
    "crates/nigh-flagd/src/eval",
    "crates/nigh-flagd/src/model",
    "crates/nigh-socket/src/address",
    "crates/nigh-socket/src/cmsg",
    "crates/nigh-socket/src/datagram/name",
    "crates/nigh-socket/src/policy/eval",
    "crates/nigh-socket/src/policy/parse",
    "crates/nigh-socket/src/policy/print",
    "crates/nigh-socket/src/guard",
    "crates/nigh-socket/src/handover/message",
    "crates/nigh-socket/src/introspect/message",
    "crates/nigh-socket/src/lane/cursor",
    "crates/nigh-socket/src/publish/names",
    "crates/nigh/src/frame",
    "crates/nigh/src/http2/authority",
    "crates/nigh/src/http2/frames",
    "crates/nigh/src/http2/hpack",
    "crates/nigh-drpc/src/wire",
    "crates/nigh-drpc/src/modules",
    "crates/nigh-cli/src/tap/decode",
];

/// What a pure file may not name.
const IMPURE: [&str; 16] = [
    "async",
    "await",
    "tokio",
    "Instant",
    "SystemTime",
    "fs",
    "File",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "libc",
    "rustix",
];

/// Words for work that was left undone, written so that this file does not find itself.
const UNDONE: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tests = Tests::default();
    for (file, lines) in sources(files) {
        rust(file, &lines, &mut findings);
        tests.collect(file, &lines);
    }
    for file in files
        .iter()
        .filter(|file| !file.has_extension(&["rs", "md", "json"]))
    {
        undone(file, file.text.lines(), &mut findings);
    }
    findings.extend(tests.orphans());
    for pure in PURE {
        if !files.iter().any(|file| file.path.starts_with(pure)) {
            let advice =
                format!("PURE in tidy/rules.rs names {pure}, which is gone: follow the move");
            findings.push(Finding {
                file: (*pure).into(),
                line: 1,
                advice,
            });
        }
    }
    findings
}

/// The Rust files and their lines. Test code is what stands under `tests/` or `benches/`, in a file that is declared
/// `#[cfg(test)] mod NAME;`, or at the foot of its file.
pub(super) fn sources(files: &[File]) -> Vec<(&File, Vec<Line>)> {
    let rust = files.iter().filter(|file| file.has_extension(&["rs"]));
    let mut sources: Vec<(&File, Vec<Line>)> = rust.map(|file| (file, split(file, &[]))).collect();
    let declared: Vec<String> = sources
        .iter()
        .flat_map(|(file, lines)| test_modules(file, lines))
        .collect();
    for (file, lines) in &mut sources {
        *lines = split(file, &declared);
    }
    sources
}

fn split(file: &File, test_modules: &[String]) -> Vec<Line> {
    let is_test = ["/tests/", "/benches/"]
        .iter()
        .any(|part| file.path.contains(part));
    let is_declared = test_modules.iter().any(|module| {
        let rest = file.path.strip_prefix(module.as_str());
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    });
    source::split(&file.text, is_test || is_declared)
}

/// Paths, without `.rs`, of the modules that this file declares for tests only.
fn test_modules(file: &File, lines: &[Line]) -> Vec<String> {
    let stem = file.path.strip_suffix(".rs").unwrap_or(&file.path);
    let (directory, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let home = if matches!(name, "mod" | "lib" | "main") {
        directory
    } else {
        stem
    };
    let pairs = lines
        .windows(2)
        .filter(|pair| pair[0].code.trim() == "#[cfg(test)]");
    let names =
        pairs.filter_map(|pair| pair[1].code.trim().strip_prefix("mod ")?.strip_suffix(';'));
    names.map(|name| format!("{home}/{name}")).collect()
}

fn rust(file: &File, lines: &[Line], findings: &mut Vec<Finding>) {
    header(file, findings);
    length(file, findings);
    let all = lines
        .iter()
        .map(|line| format!("{}{}", line.code, line.comment));
    undone(
        file,
        all.collect::<Vec<_>>().iter().map(String::as_str),
        findings,
    );
    for (index, line) in lines.iter().enumerate() {
        let mut find = |advice: &str| findings.push(file.finding(index + 1, advice));
        let code = line.code.trim();
        if has_word(code, "unsafe") && !file.path.starts_with(UNSAFE_HOME) {
            find(
                "unsafe lives in crates/nigh-socket/src/sys/ only: wrap the call there and return an owned value",
            );
        }
        if line.test && sleeps(code) {
            find("a test does not sleep: wait for the event itself, or use tokio's paused clock");
        }
        if is_code(&line.comment) {
            find("this comment looks like code: delete it, git remembers");
        }
        if code.starts_with("pub") && has_word(code, "use") && code.contains("::*") {
            find("re-export names, not `*`: a reader must see where a name comes from");
        }
        if code.starts_with("#[allow(") || code.starts_with("#![allow(") {
            find("write #[expect(.., reason = \"..\")]: it complains when it is no longer needed");
        }
        if !cfg_is_at_the_door(lines, index) {
            find(
                "a feature's cfg stands on a `mod` or `use` line only: move what it guards into a module",
            );
        }
        if PURE.iter().any(|pure| file.path.starts_with(pure)) && !line.test {
            for word in IMPURE.iter().filter(|word| has_word(code, word)) {
                find(&format!(
                    "this file is pure, it knows no `{word}`: take the value as an argument"
                ));
            }
        }
    }
}

fn header(file: &File, findings: &mut Vec<Finding>) {
    let first = file.text.lines().next().unwrap_or_default();
    if first
        .strip_prefix("//! ")
        .is_none_or(|role| role.trim().is_empty())
    {
        findings.push(file.finding(1, "line 1 is `//! ` and the one role of this file"));
    }
}

fn length(file: &File, findings: &mut Vec<Finding>) {
    let longer = LONGER.iter().find(|(path, ..)| *path == file.path);
    let max = longer.map_or(FILE_LINES_MAX, |(_, max, _)| *max);
    let lines = file.text.lines().count();
    if lines > max {
        let advice = format!(
            "{lines} lines, {max} at most: split it by role, or add it to LONGER with a reason"
        );
        findings.push(file.finding(max + 1, advice));
    }
}

fn undone<'a>(file: &File, lines: impl Iterator<Item = &'a str>, findings: &mut Vec<Finding>) {
    for (index, line) in lines.enumerate() {
        for word in UNDONE.iter().filter(|word| has_word(line, word)) {
            let advice =
                format!("{word} in the source is a promise nobody reads: do it, or open an issue");
            findings.push(file.finding(index + 1, advice));
        }
    }
}

/// Calls `sleep`; a method of that name (the test service has one) is something else.
fn sleeps(code: &str) -> bool {
    ["sleep(", "sleep_until("].iter().any(|call| {
        code.match_indices(call).any(|(at, _)| {
            let before = &code[..at];
            !before.ends_with(['.', '_'])
                && !before.ends_with("fn ")
                && !before.ends_with(char::is_alphanumeric)
        })
    })
}

/// A guess: it ends as a statement or block does and has the marks of one, or it is a lone brace.
fn is_code(comment: &str) -> bool {
    let Some(text) = comment.strip_prefix("//") else {
        return false;
    };
    if text.starts_with(['/', '!']) {
        return false;
    }
    let text = text.trim();
    let ends = text.ends_with([';', '{', '}']);
    let marks = ["(", "=", "::", "->", "let ", "return"]
        .iter()
        .any(|mark| text.contains(mark));
    text == "}" || (ends && marks)
}

fn cfg_is_at_the_door(lines: &[Line], index: usize) -> bool {
    let code = lines[index].code.trim();
    let compact: String = code.split_whitespace().collect();
    if compact.contains("cfg!(feature=") {
        return false;
    }
    if !code.starts_with("#[cfg") && !code.starts_with("#![cfg") || !compact.contains("feature=") {
        return true;
    }
    let mut next = lines[index + 1..].iter().map(|line| line.code.trim());
    let guarded = next.find(|code| !code.is_empty() && !code.starts_with("#["));
    [
        "mod ",
        "pub mod ",
        "pub(crate) mod ",
        "use ",
        "pub use ",
        "pub(crate) use ",
    ]
    .iter()
    .any(|door| guarded.is_some_and(|code| code.starts_with(door)))
}

/// Whether `word` stands alone in `text`: not inside a longer identifier.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside)
    })
}

/// The workspace's test functions, and those that only run as somebody's child.
#[derive(Debug, Default)]
pub(super) struct Tests {
    /// Names of tests that a plain `cargo test` runs.
    pub(super) names: Vec<String>,
    ignored: Vec<(Finding, Option<String>)>,
}

impl Tests {
    /// Adds the tests of one file: functions under an attribute that ends in `test]` or `test(..)]`.
    pub(super) fn collect(&mut self, file: &File, lines: &[Line]) {
        let raw: Vec<&str> = file.text.lines().collect();
        let mut is_test = false;
        let mut is_listed = false;
        let mut ignore = None;
        for (index, line) in lines.iter().enumerate() {
            let code = line.code.trim();
            // `on_both_wires! { a, b }`: each of them becomes a test on each wire.
            if code.starts_with("on_") && code.ends_with("! {") {
                is_listed = true;
            } else if is_listed {
                is_listed = code != "}";
                let cases = code.split([',', ' ', '}']).filter(|case| !case.is_empty());
                self.names.extend(cases.map(str::to_owned));
            }
            let attribute = code
                .strip_prefix("#[")
                .map(|rest| rest.trim_end_matches([']', '(', ')']));
            if let Some(attribute) = attribute {
                let path = attribute.split('(').next().unwrap_or_default();
                is_test |= path == "test" || path.ends_with("::test");
                if path.starts_with("ignore") {
                    ignore = Some(index);
                }
            } else if let Some(name) = function(code) {
                match ignore.take() {
                    Some(at) if is_test => {
                        let parent = raw[at].split("runs as a child of ").nth(1);
                        let parent = parent
                            .and_then(|rest| rest.split('"').next())
                            .map(str::to_owned);
                        let advice = "an ignored test says `#[ignore = \"runs as a child of TEST\"]` and TEST (or the beginning of several) starts it; \
                            use nigh_testkit::skip_unless! for what this machine cannot run";
                        self.ignored.push((file.finding(at + 1, advice), parent));
                    }
                    _ if is_test => self.names.push(name.to_owned()),
                    _ => {}
                }
                is_test = false;
            }
        }
    }

    fn orphans(&self) -> Vec<Finding> {
        let has_parent = |parent: &Option<String>| {
            parent.as_ref().is_some_and(|parent| {
                let name = parent.rsplit("::").next().unwrap_or_default();
                self.names.iter().any(|known| known.starts_with(name))
            })
        };
        let orphans = self
            .ignored
            .iter()
            .filter(|(_, parent)| !has_parent(parent));
        orphans.map(|(finding, _)| finding.clone()).collect()
    }
}

fn function(code: &str) -> Option<&str> {
    let rest = code.split_once("fn ").filter(|(before, _)| {
        before
            .split_whitespace()
            .all(|word| word.starts_with("pub") || word == "async")
    })?;
    rest.1.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        let file = File {
            path: path.into(),
            text: format!("//! A role.\n{text}"),
        };
        let mut findings = Vec::new();
        rust(&file, &split(&file, &[]), &mut findings);
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let source = "crates/nigh/src/a.rs";
        let test = "crates/nigh/tests/it/a.rs";
        let pure = "crates/nigh-socket/src/policy/eval.rs";
        for (path, line) in [
            (source, "unsafe { x() }"),
            (test, "tokio::time::sleep(x).await;"),
            (test, "sleep(x);"),
            (source, "// let a = b();"),
            (source, "// }"),
            (source, "pub use a::*;"),
            (source, "#[allow(dead_code)]"),
            (source, "#[cfg(feature = \"x\")]\nfn a() {}"),
            (source, "if cfg!(feature = \"x\") {}"),
            (pure, "use tokio::net;"),
            (pure, "async fn a() {}"),
            (source, concat!("// TO", "DO: later")),
        ] {
            assert_eq!(found(path, line), [2], "{path}: {line}");
        }
    }

    #[test]
    fn each_rule_leaves_the_rest_alone() {
        let source = "crates/nigh/src/a.rs";
        let test = "crates/nigh/tests/it/a.rs";
        for (path, line) in [
            ("crates/nigh-socket/src/sys/a.rs", "unsafe { x() }"),
            (source, "let unsafe_code = \"unsafe\";"),
            (source, "tokio::time::sleep(x).await;"),
            (test, "client.sleep(request).await;"),
            (test, "async fn sleep() {}"),
            (source, "// Prose may end so;"),
            (source, "/// let a = b();"),
            (source, "pub use a::{B, C};"),
            (source, "#[expect(dead_code, reason = \"x\")]"),
            (
                source,
                "#[cfg(feature = \"x\")]\n#[doc(hidden)]\npub mod a;",
            ),
            (
                "crates/nigh-socket/src/policy/eval.rs",
                "let tokioish = async_trait;",
            ),
        ] {
            assert_eq!(found(path, line), [0; 0], "{path}: {line}");
        }
    }

    #[test]
    fn a_file_says_its_role_and_stays_short() {
        let file = |text: String| File {
            path: "a.rs".into(),
            text,
        };
        let mut findings = Vec::new();
        header(&file("//!\n".into()), &mut findings);
        header(&file("use x;\n".into()), &mut findings);
        length(&file("\n".repeat(FILE_LINES_MAX + 1)), &mut findings);
        length(&file("\n".repeat(FILE_LINES_MAX)), &mut findings);
        assert_eq!(findings.len(), 3);
    }

    #[test]
    fn a_module_declared_for_tests_is_test_code() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            text: text.into(),
        };
        let files = [
            file("a/src/lib.rs", "#[cfg(test)]\nmod tests;\nmod b;\n"),
            file("a/src/b.rs", "#[cfg(test)]\nmod properties;\n"),
            file("a/src/tests.rs", "x\n"),
            file("a/src/b/properties.rs", "x\n"),
        ];
        let is_test: Vec<bool> = sources(&files)
            .iter()
            .map(|(_, lines)| lines[0].test)
            .collect();
        assert_eq!(is_test, [false, false, true, true]);
    }

    #[test]
    fn an_ignored_test_needs_a_parent() {
        let text = "#[tokio::test(flavor = \"x\")]\nasync fn parent() {}\n#[test]\n#[ignore = \"runs as a child of parent\"]\n\
            fn child() {}\n#[test]\n#[ignore = \"slow\"]\nfn slow() {}\nfn helper() {}\non_wires! {\n    one,\n    two,\n}\n";
        let file = File {
            path: "crates/a/tests/it/a.rs".into(),
            text: text.into(),
        };
        let mut tests = Tests::default();
        tests.collect(&file, &split(&file, &[]));
        assert_eq!(tests.names, ["parent", "one", "two"]);
        let lines: Vec<usize> = tests.orphans().iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [7]);
    }
}
