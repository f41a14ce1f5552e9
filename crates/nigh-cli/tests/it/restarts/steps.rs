//! Successors that are killed at each step of a hand-over, in processes of their own.

use std::io::IoSlice;

use nigh::{HandoverOptions, Listener, Succession};
use nigh_socket::{Address, ConnectOptions, UnixSeqpacket, connect_packet};
use nigh_testkit::{Child, child_variable};

use super::server::Place;

/// Where they die, and what the row is called.
pub(super) const ALL: [&str; 7] = [
    "new process killed: connected",
    "new process killed: said hello",
    "new process killed: has one listener",
    "new process killed: has all listeners",
    "new process killed: ready",
    "new process killed: told to go",
    "new process killed: serving",
];

/// Starts a successor, waits until it has got so far, kills it.
pub(super) async fn crash(place: &Place, step: &str) {
    let child = Child::test("restarts::steps::successor_child")
        .env("CONTROL", place.control().to_string())
        .env("STEP", step);
    let killed = tokio::task::spawn_blocking(move || {
        let mut process = child.spawn();
        let _ = process.wait_for("reached");
        process.kill();
    });
    killed.await.unwrap();
}

#[test]
#[ignore = "runs as a child of nobody_is_lost_over_replacements_and_crashes"]
fn successor_child() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let control: Address = child_variable("CONTROL").parse().unwrap();
        let wanted = child_variable("STEP");
        let step = ALL.iter().position(|step| **step == wanted).unwrap();
        if step == ALL.len() - 1 {
            let options = HandoverOptions::default();
            let mut succession = Succession::begin(control, options).await.unwrap();
            let listeners = succession.take_all(&Listener::options());
            let listeners: Vec<&Listener> = listeners.iter().collect();
            let _tenure = succession.take_over(&listeners).await.unwrap();
            println!("reached");
            return std::future::pending().await;
        }
        let options = ConnectOptions::default();
        let (socket, _) = connect_packet(&control, &options).await.unwrap();
        walk(&socket, step).await;
        println!("reached");
        std::future::pending::<()>().await;
    });
}

/// A successor by its bytes: docs/restarts.md.
async fn walk(socket: &UnixSeqpacket, step: usize) {
    let say = async |bytes: &[u8]| socket.send(&[IoSlice::new(bytes)], &[]).await.unwrap();
    let hear = async || {
        let mut buffer = [0; 4096];
        assert!(!socket.recv(&mut buffer).await.unwrap().is_end());
        buffer
    };
    if step < 1 {
        return;
    }
    say(b"\x01nigh-ho\n\x01\x00").await;
    if step < 2 {
        return;
    }
    let listeners = hear().await[3];
    for index in 0..listeners {
        assert_eq!(hear().await[0], 3);
        say(&[4, index, 0]).await;
        if step < 3 {
            return;
        }
    }
    if step < 4 {
        return;
    }
    let taken = (1_u64 << listeners) - 1;
    say(&[&[5][..], &taken.to_le_bytes()].concat()).await;
    if step < 5 {
        return;
    }
    assert_eq!(hear().await[0], 6);
}
