//! The descriptor guard sees what was left open, in a process of its own.

use nigh_testkit::{Child, OpenFds};

#[test]
fn a_descriptor_left_open_is_named() {
    Child::test("fds::leaks_and_notices").run().assert_success();
}

#[test]
#[ignore = "runs as a child of a_descriptor_left_open_is_named"]
fn leaks_and_notices() {
    let before = OpenFds::now();
    before.assert_unchanged();
    let null = std::fs::File::open("/dev/null").unwrap();
    let difference = before.difference(&OpenFds::now());
    assert!(
        difference.starts_with("+ ") && difference.ends_with(" -> /dev/null\n"),
        "{difference}"
    );
    assert_eq!(OpenFds::now().count(), before.count() + 1);
    drop(null);
    before.assert_unchanged();
}
