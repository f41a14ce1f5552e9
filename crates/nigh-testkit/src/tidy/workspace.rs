//! Which crate may depend on which: read from the manifests, because a wrong edge is easiest to see there.
//!
//! A development dependency may be anything but a way around the rule that the test kit is for tests.

use super::{File, Finding};

/// Workspace crates that each crate may use. A crate that is missing here is a finding: decide its place first.
const EDGES: [(&str, &[&str]); 8] = [
    ("nigh-socket", &[]),
    ("nigh", &["nigh-socket"]),
    ("nigh-drpc", &["nigh-socket"]),
    ("nigh-flagd", &["nigh"]),
    ("nigh-openfeature", &["nigh"]),
    (
        "nigh-cli",
        &[
            "nigh-socket",
            "nigh",
            "nigh-drpc",
            "nigh-flagd",
            "nigh-openfeature",
        ],
    ),
    ("nigh-testkit", &[]),
    (
        "bench",
        &[
            "nigh-socket",
            "nigh",
            "nigh-drpc",
            "nigh-flagd",
            "nigh-openfeature",
            "nigh-testkit",
        ],
    ),
];

/// Foreign crates that only these crates may use.
const KEPT: [(&str, &[&str]); 5] = [
    ("libc", &["nigh-socket"]),
    (
        "rustix",
        &["nigh-socket", "nigh-cli", "nigh-flagd", "nigh-testkit"],
    ),
    ("hyper", &["nigh", "nigh-flagd", "bench"]),
    ("rustls", &["nigh", "nigh-cli", "bench"]),
    ("datalogic-rs", &["nigh-flagd"]),
];

/// Foreign crates that these crates may not use: they know no RPC framework.
const BARRED: [(&str, &[&str]); 2] = [
    ("nigh-socket", &["tonic", "hyper", "http", "prost", "tower"]),
    ("nigh-drpc", &["tonic", "hyper", "http", "tower"]),
];

/// Says why a dependency is not allowed.
fn objection(package: &str, dependency: &str) -> Option<String> {
    let ours = EDGES.iter().any(|(name, _)| *name == dependency);
    let edges = EDGES.iter().find(|(name, _)| *name == package);
    let Some((_, allowed)) = edges else {
        return Some(format!(
            "{package} has no line in EDGES of tidy/workspace.rs: decide what it may use"
        ));
    };
    if ours && !allowed.contains(&dependency) {
        return Some(format!(
            "{package} may not use {dependency}: the allowed edges are in tidy/workspace.rs"
        ));
    }
    let kept = KEPT.iter().find(|(name, _)| *name == dependency);
    if let Some((_, homes)) = kept.filter(|(_, homes)| !homes.contains(&package)) {
        return Some(format!(
            "{dependency} belongs to {}: ask that crate for what you need",
            homes.join(", ")
        ));
    }
    let barred = BARRED.iter().find(|(name, _)| *name == package);
    barred
        .is_some_and(|(_, names)| names.contains(&dependency))
        .then(|| format!("{package} knows no {dependency}"))
}

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let manifests = files.iter().filter_map(|file| {
        let package = file
            .path
            .strip_prefix("crates/")?
            .strip_suffix("/Cargo.toml")?;
        Some((file, package))
    });
    let mut findings = Vec::new();
    for (file, package) in manifests {
        manifest(file, package, &mut findings);
    }
    for file in files {
        let parts: Vec<&str> = file.path.split('/').collect();
        if let ["crates", _, "tests", name] = parts[..]
            && !name.starts_with("fd_")
        {
            findings.push(file.finding(
                1,
                "a crate has one test binary: move this to tests/it/ (fd_*.rs may stand alone)",
            ));
        }
    }
    findings
}

fn manifest(file: &File, package: &str, findings: &mut Vec<Finding>) {
    let mut section = String::new();
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if let Some(name) = dependency(&section, line)
            && let Some(advice) = objection(package, name)
        {
            findings.push(file.finding(index + 1, advice));
        }
    }
    let inherits = |key: &str| file.text.contains(&format!("{key}.workspace = true"));
    for key in ["edition", "rust-version", "license"] {
        if !inherits(key) {
            findings.push(file.finding(
                1,
                format!("write `{key}.workspace = true`: the workspace decides it once"),
            ));
        }
    }
    // nigh-socket repeats the table, because `forbid` cannot be opened for one folder.
    let lints = match package {
        "nigh-socket" => "[lints.rust]\nunsafe_code = \"deny\"",
        _ => "[lints]\nworkspace = true",
    };
    if !file.text.contains(lints) {
        findings.push(file.finding(1, format!("its lint table is {lints:?}")));
    }
}

/// The dependency that a line of a `[dependencies]` or `[build-dependencies]` table names.
fn dependency<'a>(section: &str, line: &'a str) -> Option<&'a str> {
    let table = section.rsplit('.').next().unwrap_or(section);
    if !matches!(table, "dependencies" | "build-dependencies") || line.starts_with('#') {
        return None;
    }
    let end = line.find(['.', ' ', '='])?;
    Some(&line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "edition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n";

    fn found(package: &str, dependencies: &str) -> Vec<String> {
        let file = File {
            path: format!("crates/{package}/Cargo.toml"),
            text: format!("{TAIL}[dependencies]\n{dependencies}"),
        };
        check(&[file])
            .into_iter()
            .map(|finding| finding.advice)
            .collect()
    }

    #[test]
    fn edges_that_the_design_draws_are_allowed() {
        assert_eq!(
            found("nigh", "nigh-socket.workspace = true\ntonic = \"1\"\n"),
            [""; 0]
        );
        assert_eq!(
            found(
                "nigh-drpc",
                "# nigh\nnigh-socket.workspace = true\n[dev-dependencies]\nnigh = \"1\"\n"
            ),
            [""; 0]
        );
    }

    #[test]
    fn other_edges_are_found() {
        for (package, dependency) in [
            ("nigh-drpc", "nigh.workspace = true"),
            ("nigh-drpc", "tonic.workspace = true"),
            ("nigh", "libc.workspace = true"),
            ("nigh", "nigh-testkit = { path = \"x\" }"),
            ("nigh-core", "bytes = \"1\""),
        ] {
            assert_eq!(
                found(package, &format!("{dependency}\n")).len(),
                1,
                "{package}: {dependency}"
            );
        }
    }

    #[test]
    fn a_manifest_inherits_and_a_crate_has_one_test_binary() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            text: text.into(),
        };
        let files = [
            file("crates/nigh/Cargo.toml", "[package]\n"),
            file("crates/nigh/tests/other.rs", ""),
            file("crates/nigh/tests/fd_leaks.rs", ""),
            file("crates/nigh/tests/it/main.rs", ""),
        ];
        assert_eq!(check(&files).len(), 5);
    }
}
