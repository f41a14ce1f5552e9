//! `nigh demo` as a program: every row ends as it should, within seconds, and nothing is left behind.

use serde_json::Value;

use crate::program::nigh;

#[tokio::test]
async fn the_demonstration_succeeds_and_tidies_up() {
    let ran = nigh(&["demo", "--json"]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let rows: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(rows.iter().all(|row| row["ok"] == true), "{}", ran.stdout);
    let uid = format!("uid {} ", rustix::process::getuid().as_raw());
    let stock = rows
        .iter()
        .find(|row| row["what"] == "a stock gRPC client asks who it is");
    let caller = stock.unwrap()["caller"].as_str().unwrap();
    assert!(caller.starts_with(&uid), "{caller}");
    let greeted = rows
        .iter()
        .find(|row| row["what"] == "dRPC on the same server: the greeting");
    let greeted = greeted.unwrap();
    assert_eq!(greeted["result"], "Hello world, 300 times");
    assert_eq!(greeted["caller"], caller);
    let mixed = rows
        .iter()
        .find(|row| row["what"] == "all three on one socket at once");
    assert_eq!(
        mixed.unwrap()["result"],
        "192 answered, over http/2, http/2 and nigh"
    );
    let over = |wire: &str| {
        let words = format!("answered over {wire};");
        let found = rows
            .iter()
            .filter(|row| row["result"].as_str().unwrap().contains(&words));
        found.count()
    };
    assert_eq!((over("nigh"), over("http/2")), (2, 3));
    let flipped = rows
        .iter()
        .find(|row| row["what"] == "a flag is flipped by renaming its file");
    assert_eq!(
        flipped.unwrap()["result"],
        "hello became welcome, and the listener was told"
    );
    let file = rows
        .iter()
        .find(|row| row["what"] == "an open file, there and back");
    assert_eq!(
        file.unwrap()["result"],
        "a regular file, sealed, 21 bytes; the same came back"
    );
    let result = |what: &str| {
        let row = rows.iter().find(|row| row["what"] == what).unwrap();
        row["result"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        result("three pings before the first read"),
        "1 read of 12 bytes on a stream, 3 packets, 3 datagrams"
    );
    assert!(result("a packet with a sealed file").starts_with("1048576 bytes"));
    assert!(result("a server under a published name").starts_with("unix-abstract:"));
    assert!(result("who is connected to the server").ends_with("both ends known"));
    let refused = rows
        .iter()
        .find(|row| row["what"] == "a method for a group the caller is not in");
    let result = refused.unwrap()["result"].as_str().unwrap();
    assert!(
        result.starts_with("PERMISSION_DENIED") && result.ends_with("handlers run: 0"),
        "{result}"
    );
}

#[tokio::test]
async fn the_table_is_for_people() {
    let ran = nigh(&["demo"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    let mut lines = ran.stdout.lines();
    let address = lines
        .next()
        .unwrap()
        .strip_prefix("server at unix:")
        .unwrap();
    assert!(!std::path::Path::new(address).parent().unwrap().exists());
    assert!(lines.nth(1).unwrap().starts_with("WHAT "));
    assert!(!ran.stdout.contains('\x1b'));
}
