//! Bytes that the kernel moves: files, pipes and bridges, and what aliasing does to them.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nigh_socket::moving::{
    Bridged, FlowError, MoveError, Movement, Pipe, Unchanging, Way, bridge, bridge_copying,
    send_file, splice, splice_file, tee, vmsplice,
};
use nigh_socket::{Blame, MemoryFile, UnixDatagram, UnixSeqpacket, UnixStream};
use nigh_testkit::{Child, OpenFds, limit_descriptors};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile();
    file.write_all(bytes).unwrap();
    file
}

fn tempfile() -> File {
    let fd = MemoryFile::create("moved").unwrap();
    File::from(fd.as_fd().try_clone_to_owned().unwrap())
}

fn read_pipe(pipe: &Pipe, room: usize) -> Vec<u8> {
    let mut bytes = vec![0; room];
    let length = rustix::io::read(pipe.reader(), &mut bytes[..]).unwrap();
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn a_range_of_a_file_is_sent_and_its_offset_stays() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut file = file_of(b"0123456789");
    file.seek(std::io::SeekFrom::Start(7)).unwrap();
    assert_eq!(a.send_file(&file, 2, 4).await.unwrap(), 4);
    assert_eq!(send_file(&a, &file, 8, 100).unwrap(), 2);
    assert_eq!(a.send_file(&file, 10, 100).await.unwrap(), 0);
    let mut got = [0; 6];
    b.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"234589");
    assert_eq!(file.stream_position().unwrap(), 7);
}

#[tokio::test]
async fn all_of_a_long_file_goes_while_the_reader_reads() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = file_of(&bytes);
    let sending = tokio::spawn(async move { a.send_file_all(&file, 4, usize::MAX).await });
    let mut got = Vec::new();
    b.read_to_end(&mut got).await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap(), bytes.len() - 4);
    assert!(got == bytes[4..]);
}

/// Trap: what was sent is not a snapshot.
#[tokio::test]
async fn a_file_changed_before_it_is_read_is_read_changed_and_a_sealed_one_cannot_be() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let file = file_of(b"OLD!");
    a.send_file(&file, 0, 4).await.unwrap();
    file.write_all_at(b"NEW!", 0).unwrap();
    let mut got = [0; 4];
    b.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"NEW!");
    let mut memory = MemoryFile::create("sealed").unwrap();
    memory.write_all(b"SAME").unwrap();
    let sealed = memory.seal().unwrap();
    a.send_file(&sealed, 0, 4).await.unwrap();
    assert!(rustix::io::pwrite(&sealed, b"NEW!", 0).is_err());
    b.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"SAME");
}

#[tokio::test]
async fn sockets_of_messages_are_refused_because_they_would_be_cut() {
    let file = file_of(b"bytes");
    let pipe = Pipe::new().unwrap();
    let (a, b) = UnixSeqpacket::pair().unwrap();
    a.send(&[IoSlice::new(b"second")], &[]).await.unwrap();
    let (c, _d) = UnixDatagram::pair().unwrap();
    for socket in [a.as_fd(), c.as_fd()] {
        let refused = send_file(socket, &file, 0, 5);
        assert!(matches!(
            refused,
            Err(MoveError::NotAStream(Movement::SendFile))
        ));
        let refused = splice(pipe.reader(), socket, 5);
        assert!(matches!(
            refused,
            Err(MoveError::NotAStream(Movement::Splice))
        ));
    }
    let refused = splice(&b, pipe.writer(), 3).unwrap_err();
    assert_eq!(refused.blame(), Blame::Caller);
    // Nothing of the message was lost.
    let mut buffer = [0; 16];
    let packet = b.recv(&mut buffer).await.unwrap().into_packet().unwrap();
    assert_eq!(&buffer[..packet.length], b"second");
}

#[test]
fn what_cannot_be_moved_says_so() {
    let (file, other) = (file_of(b"x"), file_of(b"y"));
    let pipe = Pipe::new().unwrap();
    let moves = [
        splice(&file, &other, 1),
        tee(&file, pipe.writer(), 1),
        // The reading end would be filled, not read.
        vmsplice(Unchanging::from(&b"x"[..]), pipe.reader()),
        send_file(&file, pipe.reader(), 0, 1),
    ];
    for refused in moves {
        assert!(
            matches!(refused, Err(MoveError::NotMovable(_))),
            "{refused:?}"
        );
    }
    assert!(matches!(
        splice(pipe.reader(), &file, 1),
        Err(MoveError::WouldBlock(Movement::Splice))
    ));
}

#[tokio::test]
async fn bytes_go_through_pipes_without_being_copied() {
    let pipe = Pipe::new().unwrap();
    assert!(pipe.set_capacity(100_000).unwrap() >= 100_000);
    assert_eq!(pipe.capacity().unwrap(), 131_072);
    let file = file_of(b"0123456789");
    assert_eq!(splice_file(&file, 3, pipe.writer(), 4).unwrap(), 4);
    // `tee` leaves them where they are.
    let copy = Pipe::new().unwrap();
    assert_eq!(tee(pipe.reader(), copy.writer(), 100).unwrap(), 4);
    assert_eq!(read_pipe(&copy, 16), b"3456");
    let (a, mut b) = UnixStream::pair().unwrap();
    assert_eq!(splice(pipe.reader(), &a, 100).unwrap(), 4);
    let mut got = [0; 4];
    b.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"3456");
    b.write_all(b"back").await.unwrap();
    assert_eq!(splice(&a, pipe.writer(), 100).unwrap(), 4);
    assert_eq!(read_pipe(&pipe, 16), b"back");
    drop(b);
    assert_eq!(splice(&a, pipe.writer(), 100).unwrap(), 0);
    assert_eq!(splice_file(&file, 0, pipe.writer(), 1).unwrap(), 1);
    assert!(matches!(
        splice(pipe.reader(), &a, 1),
        Err(MoveError::Closed(Movement::Splice))
    ));
}

/// Only memory that never changes can be lent: the types take no other.
#[test]
fn memory_is_lent_to_a_pipe() {
    static WORDS: &[u8] = b"built in";
    let pipe = Pipe::new().unwrap();
    assert_eq!(vmsplice(Unchanging::from(WORDS), pipe.writer()).unwrap(), 8);
    assert_eq!(read_pipe(&pipe, 16), WORDS);
    let mut memory = MemoryFile::create("lent").unwrap();
    memory.write_all(b"sealed").unwrap();
    let mapping = memory.seal().unwrap().map().unwrap();
    vmsplice(Unchanging::from(&mapping), pipe.writer()).unwrap();
    // The pipe keeps the pages.
    drop(mapping);
    assert_eq!(read_pipe(&pipe, 16), b"sealed");
}

/// A client here, a bridge from a Unix stream to TCP, and a server there.
async fn bridged() -> (UnixStream, TcpStream, tokio::task::JoinHandle<Bridged>) {
    let (client, near) = UnixStream::pair().unwrap();
    let (far, server) = tcp_pair().await;
    let bridge = tokio::spawn(async move { bridge(near, far).await.unwrap() });
    (client, server, bridge)
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (far, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (far.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn a_bridge_passes_bytes_and_half_an_end_both_ways_and_counts() {
    let (mut client, mut server, bridge) = bridged().await;
    let long = vec![7; 2_000_000];
    let (sent, asked) = tokio::join!(
        async {
            client.write_all(&long).await.unwrap();
            client.shutdown().await.unwrap();
        },
        async {
            let mut asked = Vec::new();
            server.read_to_end(&mut asked).await.unwrap();
            asked
        }
    );
    let () = sent;
    assert!(asked == long);
    // That direction has ended; this one has not.
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    let Bridged { there, back } = bridge.await.unwrap();
    assert_eq!((there.bytes, back.bytes), (2_000_000, 6));
    assert_eq!((there.way, back.way), (Way::Spliced, Way::Spliced));
    assert!(there.outcome.is_ok() && back.outcome.is_ok());
}

#[tokio::test]
async fn a_bridge_tells_a_sender_that_nobody_reads_any_more() {
    let (mut client, server, bridge) = bridged().await;
    client.write_all(b"x").await.unwrap();
    // With a byte unread, this is a reset.
    server.peek(&mut [0; 1]).await.unwrap();
    drop(server);
    while client.write_all(&[0; 1000]).await.is_ok() {}
    let Bridged { there, back } = bridge.await.unwrap();
    // The reset is told once: to who read, or to who wrote.
    let kinds = [there.outcome, back.outcome].map(|outcome| outcome.unwrap_err().kind());
    assert!(
        kinds.contains(&Some(ErrorKind::ConnectionReset)),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn what_breaks_off_does_not_look_like_the_end_to_tcp() {
    let ((near, one), (far, mut two)) = (tcp_pair().await, tcp_pair().await);
    let bridge = tokio::spawn(async move { bridge(near, far).await.unwrap() });
    one.set_zero_linger().unwrap();
    drop(one);
    let broke = two.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(broke.kind(), ErrorKind::ConnectionReset);
    let bridged = bridge.await.unwrap();
    assert!(matches!(bridged.there.outcome, Err(FlowError::Read(_))));
    assert!(matches!(bridged.back.outcome, Err(FlowError::Stopped)));
}

/// The peer answered, and closed without reading all: its answer still crosses.
#[tokio::test]
async fn an_answer_before_a_reset_crosses_the_bridge() {
    let (near, mut hasty) = UnixStream::pair().unwrap();
    let (far, mut patient) = UnixStream::pair().unwrap();
    let bridge = tokio::spawn(async move { bridge(near, far).await.unwrap() });
    patient.write_all(b"question").await.unwrap();
    hasty.read_exact(&mut [0; 1]).await.unwrap();
    hasty.write_all(b"answer").await.unwrap();
    drop(hasty);
    let mut answer = String::new();
    patient.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    drop(patient);
    let Bridged { there, back } = bridge.await.unwrap();
    assert!(matches!(there.outcome, Err(FlowError::Unread)));
    assert_eq!((there.bytes, back.bytes), (6, 8));
}

/// The only streams that are not spliced.
#[tokio::test]
async fn streams_without_a_descriptor_are_bridged_by_copying() {
    let (mut client, near) = tokio::io::duplex(16);
    let (far, mut server) = UnixStream::pair().unwrap();
    let bridge = tokio::spawn(bridge_copying(near, far));
    client
        .write_all(b"a question longer than it")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(
        (&*question, &*answer),
        ("a question longer than it", "answer")
    );
    let Bridged { there, back } = bridge.await.unwrap();
    assert_eq!((there.bytes, back.bytes), (25, 6));
    assert_eq!(there.way, Way::Copied(None));
    assert!(there.outcome.is_ok() && back.outcome.is_ok());
}

#[test]
fn no_bridge_leaks_a_descriptor_and_one_without_pipes_copies() {
    Child::test("moving::leak_child").run().assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of no_bridge_leaks_a_descriptor_and_one_without_pipes_copies"]
async fn leak_child() {
    let (a, _b) = UnixStream::pair().unwrap();
    let before = OpenFds::now();
    // A descriptor on the way is closed by the kernel, and its byte crosses.
    let (mut client, mut server, bridge) = bridged().await;
    let slices = [IoSlice::new(b"x")];
    client.send_with_fds(&slices, &[a.as_fd()]).await.unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    client.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    bridge.await.unwrap();
    drop((client, server));
    before.assert_unchanged();
    // With room for two registrations and no pipe.
    let (client, near) = UnixStream::pair().unwrap();
    let (far, mut server) = UnixStream::pair().unwrap();
    let mut kept: Vec<OwnedFd> = Vec::new();
    limit_descriptors(64);
    while let Ok(fd) = a.as_fd().try_clone_to_owned() {
        kept.push(fd);
    }
    kept.truncate(kept.len() - 2);
    let bridging =
        tokio::spawn(async move { nigh_socket::moving::bridge(near, far).await.unwrap() });
    client.send_with_fds(&slices, &[]).await.unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    drop((client, server));
    let Bridged { there, .. } = bridging.await.unwrap();
    assert_eq!(there.bytes, 1);
    assert!(matches!(there.way, Way::Copied(Some(_))));
    drop(kept);
    before.assert_unchanged();
}
