//! The way of descriptors with a scripted socket: short writes, boundaries anywhere, and what the kernel drops.

mod carrier;
mod golden;

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::error::{Loss, TakeError};
use super::link::{Link, Side, Terms};
use super::socket::FdSocket;
use super::tap::Tap;
use super::{Descriptors, FdIndex, FdLimits};
use carrier::{Scripted, Step};

type End = Tap<FdSocket<Scripted>>;

fn end(side: Side, carrier: Scripted) -> (End, Arc<Link>) {
    let terms = Terms {
        accepts: true,
        limits: FdLimits::default(),
        calls_max: 4,
        user: None,
    };
    let link = Link::new(side, terms);
    let socket = FdSocket::new(carrier, Arc::clone(&link), false);
    (Tap::new(socket, Arc::clone(&link)), link)
}

fn file(name: &str) -> OwnedFd {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(name.as_bytes()).unwrap();
    reader.into()
}

fn name(fd: OwnedFd) -> String {
    std::io::read_to_string(std::fs::File::from(fd)).unwrap()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

fn data(length: usize) -> Vec<u8> {
    let mut frame = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend(b"\0\0\0\0\0\x01");
    frame.resize(frame.len() + length, 0xdd);
    frame
}

/// Both ends have said hello; what was written so far is forgotten.
async fn greeted(chop: usize) -> (End, Arc<Link>, Scripted, End, Arc<Link>, Scripted) {
    let (client_wire, server_wire) = (Scripted::new(chop), Scripted::new(chop));
    let (mut client, client_link) = end(Side::Client, client_wire.clone());
    let (mut server, server_link) = end(Side::Server, server_wire.clone());
    client
        .write_all(&[PREFACE, SETTINGS].concat())
        .await
        .unwrap();
    client.flush().await.unwrap();
    server_wire.feed(client_wire.written());
    let mut seen = vec![0; PREFACE.len() + SETTINGS.len() + 17];
    server.read_exact(&mut seen).await.unwrap();
    server.write_all(SETTINGS).await.unwrap();
    server.flush().await.unwrap();
    client_wire.feed(server_wire.written());
    client.read_exact(&mut [0; 9]).await.unwrap();
    // The hello behind the settings is taken out unseen by the reader, who waits for more.
    client_wire.feed(vec![Step::Bytes(SETTINGS.to_vec(), Vec::new())]);
    client.read_exact(&mut [0; 9]).await.unwrap();
    let _met = client_link.met().await;
    (
        client,
        client_link,
        client_wire,
        server,
        server_link,
        server_wire,
    )
}

/// Writes frames with files between them, chopped as asked, and reads them at the other end.
async fn transfer(frames: Vec<usize>, files: usize, chop: usize, read: usize) {
    let (mut client, link, wire, mut server, server_link, server_wire) = greeted(chop).await;
    let fds = Descriptors::new();
    let id = link.begin(&fds.call);
    let mut sent = Vec::new();
    for (number, length) in frames.iter().enumerate() {
        for at in 0..files {
            fds.attach(file(&format!("{number} {at}"))).unwrap();
        }
        let frame = data(*length);
        // Half of it first: what is attached in the middle of a frame waits for its end.
        let (first, second) = frame.split_at(frame.len() / 2);
        client.write_all(first).await.unwrap();
        client.write_all(second).await.unwrap();
        sent.extend(frame);
    }
    client.flush().await.unwrap();
    server_wire.feed(wire.written());
    let call = server_link.claim(id).unwrap();
    let mut came = Vec::new();
    let mut buffer = vec![0; read];
    while came.len() < sent.len() {
        let length = server.read(&mut buffer).await.unwrap();
        came.extend_from_slice(&buffer[..length]);
    }
    assert!(came == sent, "the bytes are those that were sent");
    let mut index = 0;
    for number in 0..frames.len() {
        for at in 0..files {
            assert_eq!(
                name(call.take(FdIndex(index)).unwrap()),
                format!("{number} {at}")
            );
            index += 1;
        }
    }
    assert_eq!(server_link.held(), (0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn however_it_is_cut_every_file_comes_with_its_frame(
        frames in proptest::collection::vec(0_usize..400, 1..6),
        files in 0_usize..4,
        chop in 1_usize..500,
        read in 1_usize..500,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(transfer(frames, files, chop, read));
    }
}

#[tokio::test]
async fn what_the_kernel_truncates_is_that_calls_loss_alone() {
    let (mut client, link, wire, mut server, server_link, server_wire) = greeted(4096).await;
    let (first, second) = (Descriptors::new(), Descriptors::new());
    let ids = [link.begin(&first.call), link.begin(&second.call)];
    for number in 0..3 {
        first.attach(file(&format!("lost {number}"))).unwrap();
    }
    client.flush().await.unwrap();
    second.attach(file("kept")).unwrap();
    client.write_all(&data(5)).await.unwrap();
    let mut steps = wire.written();
    let carrier = steps.iter_mut().find_map(|step| match step {
        Step::Bytes(_, fds) if fds.len() == 3 => Some(fds),
        _ => None,
    });
    carrier.unwrap().truncate(1);
    steps.insert(0, Step::TruncateNext);
    server_wire.feed(steps);
    server.read_exact(&mut [0; 14]).await.unwrap();
    let calls = ids.map(|id| server_link.claim(id).unwrap());
    assert_eq!(calls[0].loss(), Some(Loss::Truncated));
    assert_eq!(
        calls[0].take(FdIndex(0)).unwrap_err(),
        TakeError::Lost(Loss::Truncated)
    );
    assert_eq!(name(calls[1].take(FdIndex(0)).unwrap()), "kept");
}

#[tokio::test]
async fn what_the_kernel_refuses_to_send_goes_as_a_loss() {
    let (mut client, link, wire, mut server, server_link, server_wire) = greeted(4096).await;
    for (refusal, expected) in [
        (nigh_socket::SendError::InFlight, Loss::TooManyInFlight),
        (
            nigh_socket::SendError::DescriptorsRefused,
            Loss::NotPermitted,
        ),
        (nigh_socket::SendError::Unsendable, Loss::SendFailed),
    ] {
        let fds = Descriptors::new();
        let id = link.begin(&fds.call);
        let index = fds.attach(file("refused")).unwrap();
        wire.refuse(refusal);
        client.write_all(&data(5)).await.unwrap();
        assert!(fds.sent(index).await.is_err() && fds.call.loss() == Some(expected));
        server_wire.feed(wire.written());
        server.read_exact(&mut [0; 14]).await.unwrap();
        assert_eq!(server_link.claim(id).unwrap().loss(), Some(expected));
    }
}

#[tokio::test]
async fn a_frame_that_lies_about_its_count_fails_its_call() {
    let (mut client, link, wire, mut server, server_link, server_wire) = greeted(4096).await;
    let fds = Descriptors::new();
    let id = link.begin(&fds.call);
    fds.attach(file("a")).unwrap();
    client.write_all(&data(5)).await.unwrap();
    let mut steps = wire.written();
    for step in &mut steps {
        if let Step::Bytes(_, fds) = step
            && !fds.is_empty()
        {
            fds.push(file("unannounced"));
        }
    }
    server_wire.feed(steps);
    server.read_exact(&mut [0; 14]).await.unwrap();
    let loss = server_link.claim(id).unwrap().loss();
    assert_eq!(
        loss,
        Some(Loss::Count {
            announced: 1,
            came: 2
        })
    );
    assert_eq!(server_link.held().0, 0);
}

#[tokio::test]
async fn calls_that_never_come_are_bounded() {
    let (_client, _, _, mut server, server_link, server_wire) = greeted(4096).await;
    let flood = (0..20_u64).flat_map(|call| {
        let lost = super::frame::Fds {
            call,
            first: 0,
            count: 1,
            loss: 1,
        };
        super::frame::Frame::Fds(lost).encode()
    });
    server_wire.feed(vec![Step::Bytes(flood.collect(), Vec::new())]);
    let error = server.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    assert!(server_link.held().1 < 20);
}

#[tokio::test]
async fn descriptors_that_nobody_announced_are_closed() {
    let (_client, _, _, mut server, server_link, server_wire) = greeted(4096).await;
    let (reader, writer) = std::io::pipe().unwrap();
    let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).unwrap();
    assert!(writer.as_fd().try_clone_to_owned().is_ok());
    server_wire.feed(vec![Step::Bytes(data(5), vec![writer.into()])]);
    server.read_exact(&mut [0; 14]).await.unwrap();
    assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(server_link.held(), (0, 0));
}

#[tokio::test]
async fn who_waits_is_told_when_the_connection_ends_in_the_middle_of_a_write() {
    let (_end, link) = end(Side::Server, Scripted::new(9));
    link.ride_on_frames(64);
    let call = link.claim(1 << 16).unwrap();
    let index = call.attach(file("never")).unwrap();
    let mut sent = std::pin::pin!(call.sent(index));
    let early = futures_util::future::poll_immediate(sent.as_mut()).await;
    assert!(early.is_none());
    let writing = link.next_frame().unwrap();
    link.close();
    drop(writing);
    sent.await.unwrap_err();
}
