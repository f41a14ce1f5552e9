//! Children run exactly the function they were started for, as exactly the user they were given.

use std::fs;

use nigh_testkit::{Child, TempSocket, child_variable, is_root, require_root, skip_unless};

const UID: u32 = 61_001;
const GID: u32 = 61_002;
const GROUP: u32 = 61_003;

#[test]
fn a_child_has_the_ids_it_was_given() {
    require_root!();
    let outcome = Child::test("child::prints_its_ids")
        .user(UID, GID, &[GROUP])
        .env("NIGH_WORD", "hello")
        .run();
    outcome.assert_success();
    let text = outcome.text();
    assert!(text.contains("word hello"), "{text}");
    assert!(text.contains("Uid: 61001 61001 61001 61001"), "{text}");
    assert!(text.contains("Gid: 61002 61002 61002 61002"), "{text}");
    assert!(text.contains("Groups: 61003"), "{text}");
}

#[test]
#[ignore = "runs as a child of a_child_has_the_ids_it_was_given"]
fn prints_its_ids() {
    println!("word {}", child_variable("NIGH_WORD"));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines() {
        println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

#[test]
fn a_private_directory_is_closed_to_others_and_a_shared_one_is_not() {
    require_root!();
    for (socket, opens) in [(TempSocket::private(), "no"), (TempSocket::shared(), "yes")] {
        fs::write(socket.path(), "").unwrap();
        Child::test("child::sees_a_file")
            .user(UID, GID, &[])
            .env("NIGH_FILE", socket.path())
            .env("NIGH_OPENS", opens)
            .run()
            .assert_success();
    }
}

#[test]
#[ignore = "runs as a child of a_private_directory_is_closed_to_others_and_a_shared_one_is_not"]
fn sees_a_file() {
    let seen = fs::metadata(child_variable("NIGH_FILE")).is_ok();
    assert_eq!(
        if seen { "yes" } else { "no" },
        child_variable("NIGH_OPENS")
    );
}

#[test]
fn a_child_that_does_not_exist_is_no_success() {
    let outcome = Child::test("child::no_such_function").run();
    assert!(outcome.output.status.success(), "libtest is content");
    let judged = std::panic::catch_unwind(|| outcome.assert_success());
    assert!(judged.is_err());
}

#[test]
fn a_spawned_child_is_heard_and_killed() {
    let mut running = Child::test("child::says_ready_and_waits").spawn();
    assert_eq!(running.wait_for("READY"), running.child.id().to_string());
    running.kill();
}

#[test]
#[ignore = "runs as a child of a_spawned_child_is_heard_and_killed"]
fn says_ready_and_waits() {
    println!("READY {}", std::process::id());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_skipped_test_is_named_and_is_a_failure_where_it_must_be() {
    let log = TempSocket::private();
    for (strict, passes) in [("0", true), ("1", false)] {
        let outcome = Child::test("child::skips_itself")
            .env("NIGH_TEST_STRICT", strict)
            .env("NIGH_SKIP_LOG", log.join("skipped"))
            .run();
        assert_eq!(outcome.output.status.success(), passes);
        assert!(outcome.text().contains("SKIPPED "), "{}", outcome.text());
    }
    let logged = fs::read_to_string(log.join("skipped")).unwrap();
    assert_eq!(logged.lines().count(), 2);
    assert!(logged.ends_with(": needs a second moon\n"), "{logged}");
}

#[test]
#[ignore = "runs as a child of a_skipped_test_is_named_and_is_a_failure_where_it_must_be"]
fn skips_itself() {
    let moons = if is_root() { 1 } else { 0 };
    skip_unless!(moons > 1, "needs a second moon");
    unreachable!("the test is left before this");
}
