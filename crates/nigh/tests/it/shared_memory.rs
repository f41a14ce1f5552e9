//! Moving to shared memory: who does, who does not, and what becomes of a peer that abuses it (clause 14).

use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nigh::{Channel, Policy, SharedMemory, Spin, Wire};
use nigh_socket::UnixStream;
use nigh_socket::lane::Lane;
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::{Child, TempSocket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{Served, payload};

async fn client_of(served: &Served, shared_memory: SharedMemory) -> TestClient<Channel> {
    let options = Channel::options().wire(Wire::Nigh).wait(false);
    let options = options.shared_memory(shared_memory);
    TestClient::new(options.connect(served.address()).await.unwrap())
}

/// Mappings of lanes in this process: two for each that both of its sides use.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.matches("memfd:nigh-lane").count()
}

#[test]
fn calls_move_to_shared_memory_when_both_sides_want_it() {
    Child::test("shared_memory::child_counts_lanes")
        .run()
        .assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of calls_move_to_shared_memory_when_both_sides_want_it"]
async fn child_counts_lanes() {
    let (on, off) = (SharedMemory::on, SharedMemory::off);
    for (server, client, wanted) in [
        (on(), on(), 2),
        (on().spin(Spin::Off).ring_bytes(1 << 16), on(), 2),
        (on(), off(), 0),
        (off(), on(), 0),
        (on().peers(Policy::none()), on(), 0),
        (on(), on().peers(Policy::none()), 0),
        (on().peers(Policy::any()), on().peers(Policy::any()), 2),
        // A size that cannot be had is told in the log, and costs no call.
        (on().ring_bytes(3), on(), 0),
    ] {
        let served = Served::with(|service| service.shared_memory(server));
        let mut client = client_of(&served, client).await;
        client.echo(payload("hello")).await.unwrap();
        assert_eq!(mappings(), wanted);
        drop(client);
        served.stop().await;
        assert_eq!(mappings(), 0);
    }
    // More than the server allows stay on the socket, until there is a place again.
    let served = Served::with(|server| server.shared_memory(on().lanes_max(1)));
    let mut first = client_of(&served, on()).await;
    let mut second = client_of(&served, on()).await;
    for client in [&mut first, &mut second] {
        client.echo(payload("hello")).await.unwrap();
    }
    assert_eq!(mappings(), 2);
}

/// A greeting as clause 2.3 has it, with the bit of clause 2.5 for shared memory.
fn greeting() -> Vec<u8> {
    let mut greeting = b"\0nigh\r\n\x1a\x01\0\x28\0\x02\0\0\0".to_vec();
    for number in [16_384_u32, 16_384, 65_536, 65_536, 0, 0] {
        greeting.extend_from_slice(&number.to_le_bytes());
    }
    greeting
}

fn connected(socket: &TempSocket) -> UnixStream {
    let stream = std::os::unix::net::UnixStream::connect(socket.path()).unwrap();
    stream.set_nonblocking(true).unwrap();
    UnixStream::new(stream.into()).unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_caller_that_corrupts_the_ring_ends_its_own_connection() {
    let served = Served::with(|server| server.shared_memory(SharedMemory::on()));
    let mut other = client_of(&served, SharedMemory::on()).await;
    other.echo(payload("before")).await.unwrap();
    let mut stream = connected(&served.socket);
    stream.write_all(&greeting()).await.unwrap();
    let mut answer = [0; 64];
    let chunk = within(stream.recv_with_fds(&mut answer)).await.unwrap();
    assert_eq!((chunk.length, chunk.fds.len()), (40, 3), "[14.2]");
    assert_eq!(answer[12], 2, "[14.2]");
    let mut files = chunk.fds.into_iter().map(File::from);
    let (memory, mut bell) = (files.next().unwrap(), files.next().unwrap());
    memory.write_all_at(&u32::MAX.to_ne_bytes(), 0).unwrap();
    bell.write_all(&0_u64.to_ne_bytes()).unwrap();
    assert_eq!(within(stream.read(&mut answer)).await.unwrap(), 0);
    other.echo(payload("after")).await.unwrap();
}

#[tokio::test]
async fn bytes_beside_the_lane_end_the_connection() {
    let served = Served::with(|server| server.shared_memory(SharedMemory::on()));
    let mut stream = connected(&served.socket);
    stream.write_all(&greeting()).await.unwrap();
    let mut answer = [0; 64];
    let chunk = within(stream.recv_with_fds(&mut answer)).await.unwrap();
    assert_eq!(chunk.fds.len(), 3);
    stream.write_all(b"x").await.unwrap();
    // The byte is left unread, which resets the connection instead of ending it.
    let ended = within(stream.read(&mut answer)).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "[14.3] {ended:?}");
}

/// A server that answers the first caller's greeting with those descriptors and says it shares memory.
async fn answer(socket: &TempSocket, fds: &[BorrowedFd<'_>]) {
    let listener = tokio::net::UnixListener::bind(socket.path()).unwrap();
    let options = Channel::options().shared_memory(SharedMemory::on());
    let address = socket.address();
    let connecting = options.wait(false).connect(address.as_str());
    let answering = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = UnixStream::new(stream.into_std().unwrap().into()).unwrap();
        stream.read_exact(&mut [0; 40]).await.unwrap();
        let greeting = greeting();
        let sent = stream.send_with_fds(&[IoSlice::new(&greeting)], fds).await;
        assert_eq!(sent.unwrap(), 40);
        stream
    };
    let (connected, _stream) = within(async { tokio::join!(connecting, answering) }).await;
    let error = connected.unwrap_err();
    let first: &dyn std::error::Error = &error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    let is_named = causes.any(|cause| cause.to_string().contains("shared memory:"));
    assert!(is_named, "{error:?}");
}

#[tokio::test]
async fn a_server_that_sends_something_else_is_an_error_that_says_so() {
    let lane = Lane::create(1 << 16).unwrap();
    let [memory, server, client] = lane.descriptors();
    let file = File::open("/dev/zero").unwrap();
    let wrong = file.as_fd();
    for fds in [
        vec![],
        vec![memory, server],
        vec![wrong, server, client],
        vec![memory, wrong, client],
        vec![memory, server, wrong],
    ] {
        let socket = TempSocket::private();
        answer(&socket, &fds).await;
    }
}
