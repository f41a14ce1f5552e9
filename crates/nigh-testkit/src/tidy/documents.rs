//! The rules for documents: the changelog's form, and promises that name tests which exist.

use super::rules::{Tests, sources};
use super::{File, Finding};

/// Lines that a newcomer is asked to read before the first change.
const CONTRIBUTING_LINES_MAX: usize = 150;

/// Lines of an example: more is a program.
const EXAMPLE_LINES_MAX: usize = 70;

/// Documents that every reader of the repository looks for.
const EXPECTED: [&str; 8] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/evidence.md",
    "docs/threat-model.md",
    TRAPS,
];

/// The table of what the kernel does that nobody expects.
const TRAPS: &str = "docs/traps.md";

/// What the last column says of a trap that no test can meet, before the reason.
const UNREACHED: &str = "cannot be reached: ";

/// The traps that are known, by their numbers.
const TRAPS_KNOWN: std::ops::RangeInclusive<u32> = 1..=40;

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tests = Tests::default();
    for (file, lines) in sources(files) {
        tests.collect(file, &lines);
    }
    for path in EXPECTED {
        match files.iter().find(|file| file.path == path) {
            Some(file) if file.text.trim().is_empty() => {
                findings.push(file.finding(1, "this document is empty"))
            }
            Some(file) => document(file, files, &tests, &mut findings),
            None => findings.push(Finding {
                file: path.into(),
                line: 1,
                advice: "this document is missing".into(),
            }),
        }
    }
    for file in files {
        let max = match file.path.as_str() {
            "CONTRIBUTING.md" => CONTRIBUTING_LINES_MAX,
            path if path.contains("/examples/") => EXAMPLE_LINES_MAX,
            _ => continue,
        };
        if file.text.lines().count() > max {
            findings.push(file.finding(max + 1, format!("{max} lines at most: say less")));
        }
    }
    let locks = files
        .iter()
        .filter(|file| file.path.ends_with("package-lock.json"));
    for lock in locks.filter(|lock| lock.text.contains("\"resolved\"")) {
        let advice =
            "names a registry host: lock with `npm install --omit-lockfile-registry-resolved`";
        findings.push(lock.finding(1, advice));
    }
    findings
}

fn document(file: &File, files: &[File], tests: &Tests, findings: &mut Vec<Finding>) {
    match file.path.as_str() {
        "CHANGELOG.md" => changelog(file, findings),
        "docs/evidence.md" => promises(file, files, tests, |_| true, findings),
        TRAPS => {
            promises(file, files, tests, |_| true, findings);
            traps(file, findings);
        }
        "ARCHITECTURE.md" => promises(
            file,
            files,
            tests,
            |heading| heading == "Invariants",
            findings,
        ),
        _ => {}
    }
}

/// Every known trap has one row.
fn traps(file: &File, findings: &mut Vec<Finding>) {
    let first = |line: &str| {
        line.strip_prefix('|')?
            .split('|')
            .next()?
            .trim()
            .parse()
            .ok()
    };
    let numbers: Vec<u32> = file.text.lines().filter_map(first).collect();
    for trap in TRAPS_KNOWN {
        let rows = numbers.iter().filter(|number| **number == trap).count();
        if rows != 1 {
            findings.push(file.finding(1, format!("trap {trap} has {rows} rows, not one")));
        }
    }
}

/// keepachangelog.com: `Unreleased` first, then versions with dates, and only its six kinds of change.
fn changelog(file: &File, findings: &mut Vec<Finding>) {
    let mut versions = 0;
    if file.text.lines().next() != Some("# Changelog") {
        findings.push(file.finding(1, "line 1 is `# Changelog`"));
    }
    for (index, line) in file.text.lines().enumerate() {
        let mut find = |advice: &str| findings.push(file.finding(index + 1, advice));
        if let Some(version) = line.strip_prefix("## ") {
            versions += 1;
            if versions == 1 && version != "[Unreleased]" {
                find("the first section is `## [Unreleased]`");
            }
            if versions > 1 && !is_release(version) {
                find("a release is `## [1.2.3] - 2026-01-31`");
            }
        } else if let Some(kind) = line.strip_prefix("### ")
            && ![
                "Added",
                "Changed",
                "Deprecated",
                "Removed",
                "Fixed",
                "Security",
            ]
            .contains(&kind)
        {
            find("a kind of change is Added, Changed, Deprecated, Removed, Fixed or Security");
        }
    }
}

fn is_release(heading: &str) -> bool {
    let Some((version, date)) = heading
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] - "))
    else {
        return false;
    };
    let numbers = |text: &str, separator: char, lengths: [std::ops::RangeInclusive<usize>; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        let is_number = |(part, length): (&&str, &std::ops::RangeInclusive<usize>)| {
            length.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        parts.len() == 3 && parts.iter().zip(&lengths).all(is_number)
    };
    numbers(version, '.', [1..=4, 1..=4, 1..=4]) && numbers(date, '-', [4..=4, 2..=2, 2..=2])
}

/// Every table row names, in its last column, at least one test: `` `function` `` or `` `script::check` ``.
fn promises(
    file: &File,
    files: &[File],
    tests: &Tests,
    applies: impl Fn(&str) -> bool,
    findings: &mut Vec<Finding>,
) {
    let mut heading = "";
    let mut rows = 0;
    for (index, line) in file.text.lines().enumerate() {
        if let Some(text) = line.strip_prefix("## ") {
            (heading, rows) = (text, 0);
        }
        if !line.starts_with('|') {
            rows = 0;
            continue;
        }
        rows += 1;
        // A table opens with its header and the rule under it.
        if rows <= 2 || !applies(heading) {
            continue;
        }
        let last = line
            .trim()
            .trim_end_matches('|')
            .rsplit('|')
            .next()
            .unwrap_or_default();
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        let is_excused = file.path == TRAPS && last.trim().starts_with(UNREACHED);
        if named.is_empty() && !is_excused {
            findings.push(file.finding(index + 1, "this promise names no test in its last column"));
        }
        for name in named.iter().filter(|name| !exists(name, files, tests)) {
            findings
                .push(file.finding(index + 1, format!("no test and no script is called {name}")));
        }
    }
}

fn exists(name: &str, files: &[File], tests: &Tests) -> bool {
    if let Some((path, check)) = name.split_once("::")
        && let Some(script) = files.iter().find(|file| file.path == path)
    {
        return script.text.contains(check);
    }
    let function = name.rsplit("::").next().unwrap_or(name);
    files.iter().any(|file| file.path == name) || tests.names.iter().any(|known| known == function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_changelog_keeps_its_form() {
        let check = |text: &str| {
            let mut findings = Vec::new();
            changelog(&file("CHANGELOG.md", text), &mut findings);
            lines(&findings)
        };
        let good = "# Changelog\n\n## [Unreleased]\n\n### Added\n- a\n\n## [0.1.0] - 2026-11-21\n";
        assert_eq!(check(good), [0; 0]);
        assert_eq!(check("# Changes\n## 0.1.0\n### New\n"), [1, 2, 3]);
        assert_eq!(
            check("# Changelog\n## [Unreleased]\n## [0.1] - today\n"),
            [3]
        );
    }

    #[test]
    fn a_promise_names_a_test_that_exists() {
        let source = file("crates/a/tests/it/a.rs", "#[test]\nfn real() {}\n");
        let script = file("interop/run", "check 'unary call'\n");
        let mut tests = Tests::default();
        let files = [source, script];
        for (file, lines) in sources(&files) {
            tests.collect(file, &lines);
        }
        let table = "| promise | tests |\n|---|---|\n| a | `real` |\n| b | `a::real`, `interop/run::unary call` |\n\
            | c | none |\n| d | `real`, `unreal` |\n| e | `interop/run::other` |\n";
        let mut findings = Vec::new();
        promises(
            &file("docs/evidence.md", table),
            &files,
            &tests,
            |_| true,
            &mut findings,
        );
        assert_eq!(lines(&findings), [5, 6, 7]);
        findings.clear();
        promises(
            &file("ARCHITECTURE.md", table),
            &files,
            &tests,
            |heading| heading == "Invariants",
            &mut findings,
        );
        assert_eq!(lines(&findings), [0; 0]);
    }

    #[test]
    fn every_known_trap_has_one_row() {
        fn rows(numbers: impl Iterator<Item = u32>) -> usize {
            let rows: Vec<String> = numbers
                .map(|number| format!("| {number} | a | b | `c` |\n"))
                .collect();
            let mut findings = Vec::new();
            traps(&file(TRAPS, &rows.concat()), &mut findings);
            findings.len()
        }
        assert_eq!(rows(TRAPS_KNOWN), 0);
        assert_eq!(rows(TRAPS_KNOWN.skip(1)), 1);
        assert_eq!(rows(TRAPS_KNOWN.chain([7])), 1);
    }

    #[test]
    fn a_lock_file_names_no_host() {
        let files = [file(
            "interop/node/package-lock.json",
            "\"resolved\": \"x\"",
        )];
        let named = check(&files)
            .into_iter()
            .filter(|finding| finding.file.ends_with("lock.json"));
        assert_eq!(named.count(), 1);
    }
}
