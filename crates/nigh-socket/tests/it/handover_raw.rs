//! Hand-over with a process made of bytes: it stops, lies and talks nonsense at every step.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nigh_socket::handover::{HandoverError, HandoverOptions, Succession, Tenure};
use nigh_socket::{Address, ConnectOptions, Listener, SocketKind, UnixSeqpacket, connect_packet};
use nigh_testkit::{Child, OpenFds, TempSocket};

use crate::handover::{begin, control, first, listening_pid, options};

/// A successor made of bytes, which can stop anywhere.
struct Raw(UnixSeqpacket);

impl Raw {
    async fn connect(control: &Address) -> Self {
        let (socket, _) = connect_packet(control, &ConnectOptions::default())
            .await
            .unwrap();
        Self(socket)
    }

    async fn say(&self, bytes: &[u8]) {
        self.0.send(&[IoSlice::new(bytes)], &[]).await.unwrap();
    }

    /// The kind of the next message, and how many descriptors it had.
    async fn hear(&self) -> Option<(u8, usize)> {
        let mut buffer = [0; 4096];
        let packet = self.0.recv(&mut buffer).await.unwrap().into_packet()?;
        Some((buffer[0], packet.fds.len()))
    }
}

const HELLO: &[u8] = b"\x01nigh-ho\n\x01\x00";
const READY: &[u8] = b"\x05\x03\x00\x00\x00\x00\x00\x00\x00";

/// Walks a successor `steps` steps far.
async fn walk(control: &Address, steps: usize) -> Raw {
    let raw = Raw::connect(control).await;
    if steps > 0 {
        raw.say(HELLO).await;
    }
    if steps > 1 {
        assert_eq!(raw.hear().await, Some((2, 0)));
        assert_eq!(raw.hear().await, Some((3, 1)));
        raw.say(&[4, 0, 0]).await;
    }
    if steps > 2 {
        assert_eq!(raw.hear().await, Some((3, 1)));
        raw.say(&[4, 1, 0]).await;
    }
    if steps > 3 {
        raw.say(READY).await;
    }
    if steps > 4 {
        assert_eq!(raw.hear().await, Some((6, 0)));
    }
    raw
}

const STEPS: usize = 6;

/// Serves one request as far as it goes.
async fn serve_request(tenure: &mut Tenure, listeners: &[&Listener]) -> Result<(), HandoverError> {
    let request = tenure.request().await.unwrap();
    request
        .offer(listeners)
        .await?
        .give(listeners)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_successor_that_leaves_at_any_step_changes_nothing() {
    let place = TempSocket::private();
    let control = control(&place);
    let listener = Listener::options().bind(place.path()).unwrap();
    let listeners = [&listener];
    let mut tenure = first(&control, &listeners).await;
    for steps in 0..STEPS {
        let (outcome, ()) = tokio::join!(
            async {
                tokio::select! {
                    outcome = serve_request(&mut tenure, &listeners) => Some(outcome),
                    // Who leaves before it said hello is nobody: the next one is waited for.
                    () = std::future::ready(()), if steps == 0 => None,
                }
            },
            async { drop(walk(&control, steps).await) },
        );
        match outcome {
            None => assert_eq!(steps, 0),
            Some(outcome) => {
                let error = outcome.unwrap_err();
                assert!(matches!(error, HandoverError::Left(_)), "{steps}: {error}");
            }
        }
        UnixStream::connect(place.path()).unwrap();
        listener.accept().unwrap();
        assert_eq!(listening_pid(place.path()), std::process::id());
        listener.accept().unwrap();
    }
    // And after all of them one that goes the whole way.
    let (outcome, _raw) = tokio::join!(serve_request(&mut tenure, &listeners), async {
        let raw = walk(&control, STEPS).await;
        raw.say(&[7]).await;
        raw
    });
    outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_successor_is_told_and_left_behind_at_every_step() {
    let place = TempSocket::private();
    let control = control(&place);
    let listener = Listener::options().bind(place.path()).unwrap();
    let listeners = [&listener];
    let mut tenure = first(&control, &listeners).await;
    for steps in 1..STEPS {
        let (outcome, heard) = tokio::join!(serve_request(&mut tenure, &listeners), async {
            let raw = walk(&control, steps).await;
            let mut heard = raw.hear().await;
            while let Some((1..12, _)) = heard {
                heard = raw.hear().await;
            }
            heard
        });
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, HandoverError::Silent { .. }),
            "{steps}: {error}"
        );
        assert_eq!(heard, Some((12, 0)), "it is told: REFUSED");
        assert_eq!(listening_pid(place.path()), std::process::id());
        listener.accept().unwrap();
    }
}

#[tokio::test]
async fn nonsense_is_refused_and_costs_itself_alone() {
    let place = TempSocket::private();
    let control = control(&place);
    let mut tenure = first(&control, &[]).await;
    let strange: [&[u8]; 4] = [
        b"\x01nigh-ho\n\x02\x00",
        b"\x01nigh-hi\n\x01\x00",
        b"\x63",
        READY,
    ];
    for bytes in strange {
        let raw = Raw::connect(&control).await;
        raw.say(bytes).await;
        let told = async { raw.hear().await };
        tokio::select! {
            _ = tenure.request() => panic!("{bytes:?} is no request"),
            told = told => assert_eq!(told, Some((12, 0)), "{bytes:?}"),
        }
    }
    // A successor that would leave the control socket behind, or takes what was not offered.
    for taken in [0_u8, 2, 7] {
        let listener = Listener::options().bind(place.path()).unwrap();
        let listeners = [&listener];
        let (outcome, _raw) = tokio::join!(serve_request(&mut tenure, &listeners), async {
            let raw = walk(&control, 3).await;
            raw.say(&[5, taken, 0, 0, 0, 0, 0, 0, 0]).await;
            raw
        });
        let error = outcome.unwrap_err();
        assert!(matches!(error, HandoverError::Unexpected { .. }), "{error}");
    }
}

/// What a predecessor made of bytes says of a listener, and what comes of it.
async fn lie(place: &TempSocket, listener: &Listener, claim: Vec<u8>) -> HandoverError {
    let control = control(place);
    let options = options(SocketKind::Seqpacket).mode(0o600);
    let door = options.bind(control.clone()).unwrap();
    let lying = async {
        let socket = loop {
            match door.accept() {
                Ok(socket) => break UnixSeqpacket::new(socket).unwrap(),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let mut buffer = [0; 64];
        socket.recv(&mut buffer).await.unwrap();
        socket
            .send(&[IoSlice::new(&[2, 1, 0, 1, 0])], &[])
            .await
            .unwrap();
        let message = [&[3, 0, 0][..], &claim].concat();
        let sent = socket
            .send(&[IoSlice::new(&message)], &[listener.as_fd()])
            .await;
        sent.unwrap();
        let mut answer = [0; 1024];
        let _ = socket.recv(&mut answer).await.unwrap();
        answer[0]
    };
    let (error, told) = tokio::join!(async { begin(&control).await.unwrap_err() }, lying);
    assert_eq!(told, 12, "the predecessor is told: REFUSED");
    error
}

fn claim(kind: u8, file: Option<(u64, u64)>, address: &str) -> Vec<u8> {
    let (device, inode) = file.unwrap_or_default();
    let mut bytes = vec![kind, 0, u8::from(file.is_some())];
    bytes.extend_from_slice(&device.to_le_bytes());
    bytes.extend_from_slice(&inode.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&u16::try_from(address.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(address.as_bytes());
    bytes
}

#[tokio::test]
async fn a_listener_that_is_not_what_was_said_is_refused() {
    let place = TempSocket::private();
    let path = place.address();
    let listener = Listener::options().bind(place.path()).unwrap();
    let found = std::fs::metadata(place.path()).unwrap();
    let ours = Some((found.dev(), found.ino()));
    let other = TempSocket::private();
    let elsewhere = Listener::options().bind(other.path()).unwrap();
    let there = std::fs::metadata(other.path()).unwrap();
    let theirs = Some((there.dev(), there.ino()));
    let cases = [
        (&listener, claim(2, ours, &path), "unusable"),
        (&listener, claim(3, ours, &path), "unusable"),
        (&listener, claim(1, theirs, &path), "does not lead"),
        (&listener, claim(1, ours, &other.address()), "does not lead"),
        (&elsewhere, claim(1, ours, &path), "does not lead"),
        (&listener, claim(1, None, &path), "bound elsewhere"),
        (
            &listener,
            claim(1, None, "unix-abstract:x"),
            "bound elsewhere",
        ),
        (
            &listener,
            claim(1, None, "tcp:127.0.0.1:1"),
            "bound elsewhere",
        ),
    ];
    for (listener, claim, said) in cases {
        let error = lie(&place, listener, claim).await;
        let HandoverError::Listener { source, .. } = &error else {
            panic!("{error}");
        };
        assert!(source.to_string().contains(said), "{source} is not {said}");
    }
}

#[tokio::test]
async fn what_is_no_longer_published_is_not_offered() {
    let place = TempSocket::private();
    let control = control(&place);
    let listener = Listener::options().bind(place.path()).unwrap();
    let listeners = [&listener];
    let mut tenure = first(&control, &listeners).await;
    std::fs::remove_file(place.path()).unwrap();
    let (given, taken) = tokio::join!(serve_request(&mut tenure, &listeners), begin(&control));
    assert!(matches!(given.unwrap_err(), HandoverError::Listener { .. }));
    assert!(matches!(taken.unwrap_err(), HandoverError::Refused { .. }));
}

#[test]
#[ignore = "runs as a child of a_hand_over_leaks_no_descriptor"]
fn leak_child() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let place = TempSocket::private();
        let control = control(&place);
        let listener = Listener::options().bind(place.path()).unwrap();
        let listeners = [&listener];
        let mut tenure = first(&control, &listeners).await;
        let before = OpenFds::now();
        for steps in 1..STEPS {
            let (outcome, ()) = tokio::join!(serve_request(&mut tenure, &listeners), async {
                drop(walk(&control, steps).await);
            });
            outcome.unwrap_err();
            assert_eq!(before.difference(&OpenFds::now()), "", "{steps}");
        }
        let refused = tokio::join!(serve_request(&mut tenure, &listeners), async {
            drop(begin(&control).await.unwrap());
        });
        refused.0.unwrap_err();
        assert_eq!(before.difference(&OpenFds::now()), "");
    });
}

#[test]
fn a_hand_over_leaks_no_descriptor() {
    Child::test("handover_raw::leak_child")
        .run()
        .assert_success();
}

#[tokio::test]
async fn successors_queue_one_behind_the_other() {
    let place = TempSocket::private();
    let control = control(&place);
    let mut tenure = first(&control, &[]).await;
    let options = HandoverOptions::default().step_time(Duration::from_secs(30));
    let early = Raw::connect(&control).await;
    early.say(HELLO).await;
    let late = Succession::begin(control.clone(), options);
    let serving = async {
        let first = tenure.request().await.unwrap();
        drop(early);
        first.offer(&[]).await.unwrap_err();
        tenure.request().await.unwrap().offer(&[]).await
    };
    let taking = async { late.await.unwrap().take_over(&[]).await };
    let given = async { serving.await.unwrap().give(&[]).await.unwrap() };
    let (taken, _given) = tokio::join!(taking, given);
    taken.unwrap();
}
