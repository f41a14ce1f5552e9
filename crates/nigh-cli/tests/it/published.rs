//! `--publish FILE` and `published:FILE` with the programs: every command that listens, every command that connects.

use std::fs;

use nigh_testkit::TempSocket;
use rustix::process::Signal;

use crate::program::{Serving, nigh};

#[tokio::test]
async fn every_command_finds_a_published_server() {
    let place = TempSocket::private();
    let file = |name: &str| place.join(name).display().to_string();
    let (grpc, tcp, drpc) = (file("grpc"), file("tcp"), file("drpc"));
    let publish = ["--publish", &grpc, "--publish", &tcp, "--publish", &drpc];
    let serving = Serving::start(
        &["autobind:", "tcp:127.0.0.1:0", "drpc:autobind:"],
        &[&publish[..], &["--allow", "any"]].concat(),
    );
    assert_eq!(
        fs::read_to_string(&grpc).unwrap(),
        format!("{}\n", serving.addresses[0])
    );
    for file in [&grpc, &tcp] {
        let address = format!("published:{file}");
        let ran = nigh(&[
            "call",
            &address,
            "nigh.diag.v1.Diag/Echo",
            r#"{"text": "x"}"#,
        ])
        .await;
        assert_eq!(ran.stdout, "{\"text\":\"x\"}\n", "{}", ran.stderr);
        let ran = nigh(&["who", &address, "--json"]).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let ran = nigh(&[
        "drpc",
        &format!("published:{drpc}"),
        "TEST",
        "GREETING",
        "0a0178",
    ])
    .await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serving.signal(Signal::TERM);
    assert_eq!(serving.ended().await.code, 0);
    for file in [&grpc, &tcp, &drpc] {
        assert!(!fs::exists(file).unwrap(), "{file}");
    }
}

#[tokio::test]
async fn what_cannot_be_published_or_believed_is_said() {
    let place = TempSocket::private();
    let file = place.join("f").display().to_string();
    let ran = nigh(&["serve", "autobind:", "autobind:", "--publish", &file]).await;
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    fs::write(&file, "notes").unwrap();
    let ran = nigh(&["serve", "autobind:", "--publish", &file]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("left alone"), "{}", ran.stderr);
    let ran = nigh(&["who", &format!("published:{file}")]).await;
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("one line of text"), "{}", ran.stderr);
}

#[tokio::test]
async fn the_commands_for_plain_sockets_find_it_too() {
    let place = TempSocket::private();
    let file = place.join("f").display().to_string();
    let serving = Serving::start(&["autobind:"], &["--publish", &file]);
    let address = format!("published:{file}");
    let holder = format!("{} ", serving.pid());
    let client = nigh_socket::ConnectOptions::default();
    let server = address.parse().unwrap();
    let (_stream, _) = nigh_socket::connect(&server, &client).await.unwrap();
    let ran = nigh(&["peers", &address, "--stuck", "1ms"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains(&holder), "{}", ran.stdout);
    let ran = nigh(&["doctor", &address]).await;
    assert!(
        ran.stdout.contains(&format!("held by {holder}")),
        "{}",
        ran.stdout
    );
    let ran = nigh(&["send", &address, "x", "--timeout", "20s"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // A client that comes before its server waits for the file as for a socket.
    let late = format!("published:{}", place.join("late").display());
    let waiting = tokio::spawn(async move { nigh(&["who", &late, "--wait", "--json"]).await });
    // Until it has been started.
    tokio::task::yield_now().await;
    let late = place.join("late").display().to_string();
    let _second = Serving::start(&["autobind:"], &["--publish", &late]);
    let ran = waiting.await.unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}
