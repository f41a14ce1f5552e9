//! The house rules hold over the whole workspace.

use std::path::Path;

#[test]
fn house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let findings = nigh_testkit::tidy::check(&root).unwrap();
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        findings.is_empty(),
        "house rules (CONTRIBUTING.md):\n{}",
        text.join("\n")
    );
}
