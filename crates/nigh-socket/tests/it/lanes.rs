//! The shared-memory lane: the same bytes however they are cut, between tasks, processes, and with a peer that lies or dies.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nigh_socket::lane::{
    LANE_DESCRIPTORS, Lane, LaneError, LaneFault, LaneStream, RING_BYTES, RING_BYTES_MIN, Spin,
};
use nigh_socket::{Listener, UnixStream};
use nigh_testkit::{Child, OpenFds, TempSocket, child_variable};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the client gets of `lane`, without a socket between.
fn copies(lane: &Lane) -> Vec<OwnedFd> {
    let descriptors = lane.descriptors();
    descriptors
        .iter()
        .map(|fd| fd.try_clone_to_owned().unwrap())
        .collect()
}

fn pair_with(ring_bytes: u32, spin: Spin) -> (LaneStream, LaneStream) {
    let (a, b) = UnixStream::pair().unwrap();
    let server = Lane::create(ring_bytes).unwrap();
    let client = Lane::accept(copies(&server), ring_bytes).unwrap();
    (server.open(a, spin).unwrap(), client.open(b, spin).unwrap())
}

fn pair() -> (LaneStream, LaneStream) {
    pair_with(RING_BYTES_MIN, Spin::Off)
}

/// A pair, and the memory between them as a file that anybody may write.
fn pair_with_memory() -> (LaneStream, LaneStream, File) {
    let (a, b) = UnixStream::pair().unwrap();
    let server = Lane::create(RING_BYTES_MIN).unwrap();
    let mut descriptors = copies(&server);
    let memory = descriptors[0].try_clone().unwrap();
    let client = Lane::accept(std::mem::take(&mut descriptors), RING_BYTES_MIN).unwrap();
    (
        server.open(a, Spin::adaptive()).unwrap(),
        client.open(b, Spin::adaptive()).unwrap(),
        memory.into(),
    )
}

/// Fails the test instead of hanging it.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let time = Duration::from_secs(30);
    tokio::time::timeout(time, future).await.unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 31 + at / 251).to_le_bytes()[0])
        .collect()
}

fn fault(error: &std::io::Error) -> LaneFault {
    *error.get_ref().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_more_than_a_ring_holds() {
    for spin in [Spin::Off, Spin::adaptive()] {
        let (mut server, mut client) = pair_with(RING_BYTES_MIN, spin);
        let sent = pattern(10 * RING_BYTES_MIN as usize + 17);
        let echoing = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(&mut server);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let mut received = Vec::new();
        let sending = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        within(async { tokio::join!(sending, reader.read_to_end(&mut received)) })
            .await
            .1
            .unwrap();
        assert!(received == sent);
        within(echoing).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_and_answers_on_two_threads_never_get_stuck() {
    for spin in [Spin::Off, Spin::adaptive()] {
        let (mut server, mut client) = pair_with(RING_BYTES, spin);
        let answering = tokio::spawn(async move {
            let mut question = [0; 64];
            while server.read_exact(&mut question).await.is_ok() {
                server.write_all(&question).await.unwrap();
            }
        });
        let asking = tokio::spawn(async move {
            for round in 0..20_000_u64 {
                let question = [round.to_le_bytes(); 8].concat();
                client.write_all(&question).await.unwrap();
                let mut answer = [0; 64];
                client.read_exact(&mut answer).await.unwrap();
                assert_eq!(question, answer);
            }
        });
        within(asking).await.unwrap();
        within(answering).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However writer and reader cut the stream, and whatever they do first, it is the same stream.
    #[test]
    fn any_cut_gives_the_same_bytes(
        writes in proptest::collection::vec(proptest::collection::vec(0_usize..6_000, 1..4), 1..40),
        reads in proptest::collection::vec(1_usize..6_000, 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(within(async {
            let (mut server, mut client) = pair();
            let sent = pattern(writes.iter().flatten().sum());
            let expected = sent.clone();
            let writing = tokio::spawn(async move {
                let mut rest = &sent[..];
                for lengths in writes {
                    let mut slices: Vec<IoSlice<'_>> = Vec::new();
                    let mut ahead = rest;
                    for length in lengths {
                        let (slice, later) = ahead.split_at(length.min(ahead.len()));
                        slices.push(IoSlice::new(slice));
                        ahead = later;
                    }
                    let written = server.write_vectored(&slices).await.unwrap();
                    rest = &rest[written..];
                }
                server.write_all(rest).await.unwrap();
            });
            let mut received = Vec::new();
            for length in reads.iter().cycle() {
                let mut piece = vec![0; *length];
                let read = client.read(&mut piece).await.unwrap();
                if read == 0 {
                    break;
                }
                received.extend_from_slice(&piece[..read]);
            }
            writing.await.unwrap();
            assert!(received == expected);
        }));
    }

    /// A peer that writes anything anywhere gets errors or garbage, and this process goes on.
    #[test]
    fn a_peer_that_scribbles_gets_an_error_or_garbage(
        scribbles in proptest::collection::vec(
            (prop_oneof![0_u64..2_048, Just(0), Just(128), Just(1_024), Just(1_152), 0_u64..12_288], any::<u32>()),
            1..60,
        ),
        steps in proptest::collection::vec((any::<bool>(), 1_usize..5_000), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _context = runtime.enter();
        let (mut server, mut client, memory) = pair_with_memory();
        let mut scribbles = scribbles.into_iter().cycle();
        for (is_write, length) in steps {
            let (at, value) = scribbles.next().unwrap();
            memory.write_all_at(&value.to_le_bytes(), at.min(12_284)).unwrap();
            for stream in [&mut server, &mut client] {
                let mut piece = vec![1; length];
                let now = async {
                    if is_write { stream.write(&piece).await } else { stream.read(&mut piece).await }
                };
                let polled = runtime.block_on(async { tokio::select! { biased; done = now => Some(done), () = std::future::ready(()) => None } });
                match polled {
                    Some(Ok(moved)) => prop_assert!(moved <= length),
                    Some(Err(error)) => { fault(&error); }
                    None => {}
                }
            }
        }
    }
}

#[tokio::test]
async fn impossible_counts_end_the_stream_with_a_clear_error_and_for_good() {
    let (mut server, mut client, memory) = pair_with_memory();
    // The client's count of bytes written, at offset 0.
    memory.write_all_at(&u32::MAX.to_le_bytes(), 0).unwrap();
    for _ in 0..2 {
        let error = within(server.read(&mut [0; 8])).await.unwrap_err();
        assert!(matches!(fault(&error), LaneFault::Written { .. }));
        assert_eq!(
            error.to_string(),
            "shared memory: the peer says that 4294967295 bytes wait to be read, where 0 to 4096 can"
        );
        memory.write_all_at(&[0; 4], 0).unwrap();
    }
    // The server's count of bytes read, at offset 128.
    memory.write_all_at(&7_u32.to_le_bytes(), 128).unwrap();
    let error = within(client.write_all(&[0; 5_000])).await.unwrap_err();
    assert!(matches!(fault(&error), LaneFault::Read { .. }));
}

#[tokio::test]
async fn bytes_on_the_socket_beside_it_are_a_fault() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut server = Lane::create(RING_BYTES)
        .unwrap()
        .open(a, Spin::Off)
        .unwrap();
    b.write_all(b"x").await.unwrap();
    let error = within(server.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(fault(&error), LaneFault::SocketBytes);
}

#[tokio::test]
async fn a_side_may_end_and_still_listen() {
    let (mut server, mut client) = pair();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    within(server.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = Vec::new();
    within(client.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"answer");
    let error = within(client.write_all(&[0; 64])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn who_waits_for_room_learns_that_the_peer_is_gone() {
    let (server, mut client) = pair();
    let writing = tokio::spawn(async move { client.write_all(&pattern(100_000)).await });
    tokio::task::yield_now().await;
    drop(server);
    let error = within(writing).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

fn memory_file(length: u64, seals: SealFlags, flags: MemfdFlags) -> OwnedFd {
    let flags = flags | MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("nigh-test", flags).unwrap();
    rustix::fs::ftruncate(&file, length).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

#[test]
fn the_client_maps_only_memory_that_cannot_change_its_length() {
    let right = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let length = 4_096 + 2 * u64::from(RING_BYTES_MIN);
    let try_memory = |memory: OwnedFd| {
        let lane = Lane::create(RING_BYTES_MIN).unwrap();
        let mut descriptors = copies(&lane);
        descriptors[0] = memory;
        Lane::accept(descriptors, RING_BYTES_MIN)
    };
    let none = MemfdFlags::empty();
    try_memory(memory_file(length, right, none)).unwrap();
    for seals in [
        SealFlags::GROW | SealFlags::SEAL,
        SealFlags::SHRINK | SealFlags::SEAL,
        SealFlags::SHRINK | SealFlags::GROW,
        right | SealFlags::WRITE,
        right | SealFlags::FUTURE_WRITE,
    ] {
        let error = try_memory(memory_file(length, seals, none)).unwrap_err();
        assert!(matches!(error, LaneError::Seals), "{error}");
        assert!(error.is_peers_fault());
    }
    let error = try_memory(memory_file(length + 1, right, none)).unwrap_err();
    assert!(matches!(error, LaneError::Length { .. }), "{error}");
    let mut others = vec![OwnedFd::from(File::open("/dev/zero").unwrap())];
    others.push(tempfile_of(length));
    // Huge pages can run out, which kills who touches them.
    let huge = 2 * 1024 * 1024;
    let flags = MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::memfd_create("nigh-test", flags)
        && rustix::fs::ftruncate(&file, huge).is_ok()
    {
        rustix::fs::fcntl_add_seals(&file, right).unwrap();
        others.push(file);
    }
    for other in others {
        let error = try_memory(other).unwrap_err();
        assert!(matches!(error, LaneError::NotMemory), "{error}");
    }
}

fn tempfile_of(length: u64) -> OwnedFd {
    let place = TempSocket::private();
    let file = File::create_new(place.join("file")).unwrap();
    file.set_len(length).unwrap();
    file.into()
}

#[test]
fn the_client_rings_only_event_descriptors() {
    use rustix::event::epoll;
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
    let (reader, writer) = std::io::pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let clock = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
    let others: [OwnedFd; 6] = [
        reader.into(),
        writer.into(),
        socket.into(),
        clock,
        epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
        File::options()
            .write(true)
            .open("/dev/null")
            .unwrap()
            .into(),
    ];
    for other in others {
        for place in [1, 2] {
            let lane = Lane::create(RING_BYTES_MIN).unwrap();
            let mut descriptors = copies(&lane);
            descriptors[place] = other.try_clone().unwrap();
            let error = Lane::accept(descriptors, RING_BYTES_MIN).unwrap_err();
            assert!(matches!(error, LaneError::NotEvent), "{error}");
        }
    }
}

#[test]
fn sizes_and_numbers_are_checked() {
    for bytes in [0, 3_000, RING_BYTES_MIN / 2, RING_BYTES_MIN + 1, 1 << 31] {
        let error = Lane::create(bytes).unwrap_err();
        assert!(matches!(error, LaneError::RingBytes { .. }), "{error}");
        assert!(error.hint().is_some() && !error.is_peers_fault());
    }
    let lane = Lane::create(RING_BYTES_MIN).unwrap();
    let mut descriptors = copies(&lane);
    assert_eq!(descriptors.len(), LANE_DESCRIPTORS);
    descriptors.pop();
    let error = Lane::accept(descriptors, RING_BYTES_MIN).unwrap_err();
    assert!(
        matches!(
            error,
            LaneError::Descriptors {
                wanted: 3,
                found: 2
            }
        ),
        "{error}"
    );
    // The size of the rings is the server's choice, up to what the client takes.
    Lane::accept(copies(&lane), RING_BYTES).unwrap();
    let lane = Lane::create(RING_BYTES).unwrap();
    let error = Lane::accept(copies(&lane), RING_BYTES / 2).unwrap_err();
    assert!(matches!(error, LaneError::Length { .. }), "{error}");
}

/// A bell that its owner has filled and made to block does not stop who rings it.
#[tokio::test]
async fn a_bell_that_is_full_and_blocks_stops_nobody() {
    let (a, b) = UnixStream::pair().unwrap();
    let server = Lane::create(RING_BYTES_MIN).unwrap();
    let descriptors = copies(&server);
    let bell = descriptors[2].try_clone().unwrap();
    let client = Lane::accept(descriptors, RING_BYTES_MIN).unwrap();
    let (mut server, mut client) = (
        server.open(a, Spin::Off).unwrap(),
        client.open(b, Spin::Off).unwrap(),
    );
    rustix::io::write(&bell, &(u64::MAX - 3).to_ne_bytes()).unwrap();
    let flags = rustix::fs::fcntl_getfl(&bell).unwrap();
    rustix::fs::fcntl_setfl(&bell, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    let reading = tokio::spawn(async move {
        let mut piece = [0; 4];
        for _ in 0..3 {
            client.read_exact(&mut piece).await.unwrap();
        }
    });
    for _ in 0..3 {
        tokio::task::yield_now().await;
        server.write_all(b"ding").await.unwrap();
    }
    within(reading).await.unwrap();
}

#[test]
fn nothing_of_a_lane_stays_open() {
    let child = Child::test("lanes::child_opens_and_drops_lanes");
    child.run().assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of nothing_of_a_lane_stays_open"]
async fn child_opens_and_drops_lanes() {
    drop(pair());
    let before = OpenFds::now();
    for _ in 0..10 {
        let (mut server, mut client) = pair();
        server.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
    }
    let lane = Lane::create(RING_BYTES).unwrap();
    Lane::accept(copies(&lane), RING_BYTES_MIN).unwrap_err();
    drop(lane);
    before.assert_unchanged();
}

/// Sends a lane to whoever connects.
async fn serve(listener: &Listener) -> LaneStream {
    let accepted =
        std::os::unix::net::UnixListener::from(listener.as_fd().try_clone_to_owned().unwrap());
    accepted.set_nonblocking(false).unwrap();
    let (stream, _) = tokio::task::spawn_blocking(move || accepted.accept().unwrap())
        .await
        .unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = UnixStream::new(stream.into()).unwrap();
    let lane = Lane::create(RING_BYTES).unwrap();
    let sent = stream
        .send_with_fds(&[IoSlice::new(b"L")], &lane.descriptors())
        .await;
    assert_eq!(sent.unwrap(), 1);
    lane.open(stream, Spin::adaptive()).unwrap()
}

async fn reach() -> LaneStream {
    let stream = std::os::unix::net::UnixStream::connect(child_variable("LANE_SOCKET")).unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = UnixStream::new(stream.into()).unwrap();
    let chunk = stream.recv_with_fds(&mut [0; 1]).await.unwrap();
    let lane = Lane::accept(chunk.fds, RING_BYTES).unwrap();
    lane.open(stream, Spin::adaptive()).unwrap()
}

#[tokio::test]
async fn two_processes_talk_and_the_killed_one_is_noticed_at_once() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let child = Child::test("lanes::child_echoes_over_a_lane").env("LANE_SOCKET", place.path());
    let mut child = child.spawn();
    let mut server = within(serve(&listener)).await;
    for length in [1, 64, 70_000, 1_000_000] {
        let sent = pattern(length);
        let mut received = vec![0; length];
        let (mut reader, mut writer) = tokio::io::split(&mut server);
        let both =
            async { tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received)) };
        within(both).await.1.unwrap();
        assert!(received == sent, "{length}");
    }
    // It sleeps in a read now, and so will this side.
    let reading = tokio::spawn(async move { server.read(&mut [0; 8]).await });
    tokio::task::yield_now().await;
    child.kill();
    assert_eq!(within(reading).await.unwrap().unwrap(), 0);
}

#[tokio::test]
#[ignore = "runs as a child of two_processes_talk_and_the_killed_one_is_noticed_at_once"]
async fn child_echoes_over_a_lane() {
    let mut stream = reach().await;
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
}
