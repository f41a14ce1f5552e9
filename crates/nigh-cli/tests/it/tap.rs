//! `nigh tap` as a program: what goes in comes out as it was, and is shown.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, IoSlice, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use nigh_socket::{
    Acceptor, ConnectOptions, Listener, Packet, Policy, SocketKind, Stream, Transport,
    UnixSeqpacket, connect, connect_packet,
};
use nigh_testkit::TempSocket;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{Serving, nigh};

/// A running tap.
struct Tap {
    child: Child,
    stdout: BufReader<ChildStdout>,
    first: Value,
}

impl Tap {
    fn start(listen: &str, to: &str, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nigh"))
            .args([&["tap", "--json", listen, to], options].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let first = serde_json::from_str(&line).unwrap();
        Self {
            child,
            stdout,
            first,
        }
    }

    /// The lines up to the end of the first connection.
    fn lines(&mut self) -> Vec<Value> {
        let mut lines: Vec<Value> = Vec::new();
        while lines.last().is_none_or(|last| last["what"] != "closed") {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0);
            lines.push(serde_json::from_str(&line).unwrap());
        }
        lines
    }

    /// Tells it to stop, and returns its exit code.
    fn stop(mut self) -> i32 {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        // It may have more to say.
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whats<'a>(lines: &'a [Value], wire: &str, from: &str) -> Vec<&'a str> {
    let found = lines
        .iter()
        .filter(|line| line["wire"] == wire && line["from"] == from);
    found.map(|line| line["what"].as_str().unwrap()).collect()
}

fn find<'a>(lines: &'a [Value], what: &str) -> &'a Value {
    lines.iter().find(|line| line["what"] == what).unwrap()
}

#[tokio::test]
async fn a_grpc_call_is_carried_shown_and_made_by_the_tap() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let _serving = Serving::start(&[&socket.address()], &[]);
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/nigh/diag/v1/diag.proto");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let options = ["--proto", proto, "-I", folder];
    let mut tap = Tap::start(&front.address(), &socket.address(), &options);
    let warning = tap.first["warning"].as_str().unwrap();
    assert!(
        warning.starts_with("the server now sees the tap as its client"),
        "{warning}"
    );

    let method = "nigh.diag.v1.Diag/WhoAmI";
    let ran = nigh(&[
        "call",
        &front.address(),
        method,
        "--proto",
        proto,
        "-I",
        folder,
        "--wire",
        "http2",
    ])
    .await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let who: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(who["pid"]["id"], tap.child.id());

    let lines = tap.lines();
    assert_eq!(whats(&lines, "gRPC", "client"), ["call", "request message"]);
    assert_eq!(
        whats(&lines, "gRPC", "server"),
        ["response message", "status"]
    );
    assert_eq!(find(&lines, "call")["method"], format!("/{method}"));
    assert_eq!(
        find(&lines, "response message")["json"]["pid"]["id"],
        tap.child.id()
    );
    let status = find(&lines, "status");
    assert_eq!(status["status"], "OK");
    assert!(status["took_us"].as_u64().unwrap() > 0);
    assert_eq!(tap.stop(), 0);
    assert!(!front.path().exists());
}

#[tokio::test]
async fn a_call_on_the_nigh_wire_is_carried_and_shown() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let _serving = Serving::start(&[&socket.address()], &[]);
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/nigh/diag/v1/diag.proto");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let described = ["--proto", proto, "-I", folder];
    let method = "nigh.diag.v1.Diag/Echo";
    // What the server speaks is found out through the tap, too.
    for wire in ["nigh", "auto"] {
        let mut tap = Tap::start(&front.address(), &socket.address(), &described);
        let request = r#"{"text": "hello"}"#;
        let call = ["call", &front.address(), method, request, "--wire", wire];
        let ran = nigh(&[&call[..], &described].concat()).await;
        assert_eq!(
            (ran.code, &*ran.stdout),
            (0, "{\"text\":\"hello\"}\n"),
            "{}",
            ran.stderr
        );
        let lines = tap.lines();
        let client = whats(&lines, "nigh", "client");
        assert_eq!(client[..2], ["greeting", "HEADERS"]);
        assert_eq!(whats(&lines, "nigh", "server")[0], "greeting");
        assert_eq!(whats(&lines, "gRPC", "client"), ["call", "request message"]);
        let answer = whats(&lines, "gRPC", "server");
        assert_eq!(answer, ["response message", "status"]);
        assert_eq!(find(&lines, "call")["method"], format!("/{method}"));
        assert_eq!(find(&lines, "HEADERS")["path_number"], 1);
        assert_eq!(find(&lines, "request message")["json"]["text"], "hello");
        assert!(find(&lines, "status")["took_us"].as_u64().unwrap() > 0);
        assert_eq!(tap.stop(), 0);
    }
}

#[tokio::test]
async fn files_of_a_call_on_either_wire_are_shown_with_their_frames() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let _serving = Serving::start(&[&socket.address()], &[]);
    let file = socket.join("file");
    std::fs::write(&file, "twelve bytes").unwrap();
    let fd = format!("fds={}", file.display());
    for wire in ["nigh", "http2"] {
        let mut tap = Tap::start(&front.address(), &socket.address(), &[]);
        let (method, out) = ("nigh.diag.v1.Diag/Swap", socket.join("out"));
        let saved = format!("fds={}", out.display());
        let front = front.address();
        let call = ["call", &front, method, "--wire", wire];
        let ran = nigh(&[&call[..], &["--fd", &fd, "--save-fd", &saved]].concat()).await;
        assert_eq!(ran.code, 0, "{wire}: {}", ran.stderr);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "twelve bytes");
        let lines = tap.lines();
        for side in ["client", "server"] {
            let tapped = whats(&lines, "tap", side);
            assert_eq!(tapped, ["descriptors", "end"], "{wire} {side}");
        }
        if wire == "nigh" {
            let asked = find(&lines, "FDS");
            assert_eq!(
                (&asked["descriptors"], &asked["first_index"]),
                (&1.into(), &0.into())
            );
            assert!(whats(&lines, "nigh", "server").contains(&"FDS"));
            assert_eq!(find(&lines, "greeting")["descriptors_per_frame"], 64);
        }
        assert_eq!(tap.stop(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_of_shared_memory_is_taken_out_and_that_is_said() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let listener = Listener::options().bind(socket.path()).unwrap();
    let service = nigh_testkit::service::TestService::default();
    let server = nigh::Server::new()
        .listen(listener)
        .service(service.server())
        .shared_memory(nigh::SharedMemory::on());
    let serving = tokio::spawn(server.run(std::future::pending()));
    let mut tap = Tap::start(&front.address(), &socket.address(), &[]);
    let options = nigh::Channel::options().wire(nigh::Wire::Nigh);
    let options = options.shared_memory(nigh::SharedMemory::on());
    let channel = options.connect(front.address().as_str()).await.unwrap();
    let mut client = nigh_testkit::service::proto::test_client::TestClient::new(channel);
    let payload = nigh_testkit::service::proto::Payload {
        data: b"seen".to_vec(),
    };
    client.echo(payload).await.unwrap();
    drop(client);
    let lines = tap.lines();
    let said = lines.iter().filter_map(|line| line["what"].as_str());
    let said: Vec<&str> = said.filter(|what| what.contains("shared memory")).collect();
    assert_eq!(said.len(), 1, "{lines:?}");
    // So the call is seen.
    assert_eq!(whats(&lines, "gRPC", "client"), ["call", "request message"]);
    assert_eq!(tap.stop(), 0);
    serving.abort();
}

async fn accepted(listener: Listener) -> Transport {
    let mut acceptor = Acceptor::new(listener).unwrap();
    let incoming = acceptor.accept().await.unwrap();
    incoming.admit(&Policy::same_user()).unwrap().into_parts().0
}

/// An unnamed file with this text.
fn file(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn content(fd: std::os::fd::OwnedFd) -> String {
    let mut file = File::from(fd);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn bytes_descriptors_and_ends_go_through_both_ways() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let listener = Listener::options()
        .pass_rights(true)
        .bind(socket.path())
        .unwrap();
    let mut tap = Tap::start(&front.address(), &socket.address(), &["--bytes", "2"]);
    let options = ConnectOptions::default();
    let to = front.address().parse().unwrap();
    let (client, server) = tokio::join!(connect(&to, &options), accepted(listener));
    let Stream::Unix(client) = client.unwrap().0 else {
        panic!("no Unix socket");
    };
    let Ok(Stream::Unix(server)) = server.into_stream() else {
        panic!("no Unix socket");
    };

    let passed = file("hello");
    let slices = [IoSlice::new(&[1, 2, 3])];
    assert_eq!(
        client
            .send_with_fds(&slices, &[passed.as_fd()])
            .await
            .unwrap(),
        3
    );
    rustix::net::shutdown(&client, rustix::net::Shutdown::Write).unwrap();
    let mut buffer = [0; 8];
    let mut chunk = server.recv_with_fds(&mut buffer).await.unwrap();
    assert_eq!(buffer[..chunk.length], [1, 2, 3]);
    assert_eq!(content(chunk.fds.pop().unwrap()), "hello");
    // The client's end came through, and the other way is still open.
    assert_eq!(server.recv_with_fds(&mut buffer).await.unwrap().length, 0);
    let slices = [IoSlice::new(&[9])];
    server
        .send_with_fds(&slices, &[file("back").as_fd()])
        .await
        .unwrap();
    let mut chunk = client.recv_with_fds(&mut buffer).await.unwrap();
    assert_eq!(buffer[..chunk.length], [9]);
    assert_eq!(content(chunk.fds.pop().unwrap()), "back");
    drop(server);
    assert_eq!(client.recv_with_fds(&mut buffer).await.unwrap().length, 0);

    let lines = tap.lines();
    let are = find(&lines, "descriptors")["are"][0].as_str().unwrap();
    assert!(are.ends_with("(5 bytes)"), "{are}");
    let piece = find(&lines, "piece");
    assert_eq!(
        (&piece["length"], &piece["hex"], &piece["not_shown"]),
        (&3.into(), &"0102".into(), &1.into())
    );
    assert_eq!(tap.stop(), 0);
}

#[tokio::test]
async fn a_client_that_is_gone_is_gone_for_a_server_that_waits_too() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let listener = Listener::options()
        .pass_rights(true)
        .bind(socket.path())
        .unwrap();
    let mut tap = Tap::start(&front.address(), &socket.address(), &[]);
    let options = ConnectOptions::default();
    let to = front.address().parse().unwrap();
    let (client, server) = tokio::join!(connect(&to, &options), accepted(listener));
    drop(client.unwrap());
    // The server does not end its side, and is told all the same.
    let lines = tap.lines();
    assert_eq!(whats(&lines, "tap", "client"), ["end"]);
    let mut polled = [rustix::event::PollFd::new(
        &server,
        rustix::event::PollFlags::empty(),
    )];
    rustix::event::poll(&mut polled, None).unwrap();
    assert!(polled[0].revents().contains(rustix::event::PollFlags::HUP));
    assert_eq!(tap.stop(), 0);
}

async fn packet(socket: &UnixSeqpacket, buffer: &mut [u8]) -> Packet {
    socket.recv(buffer).await.unwrap().into_packet().unwrap()
}

#[tokio::test]
async fn packets_keep_their_bounds_and_descriptors() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let options = Listener::options()
        .pass_rights(true)
        .kind(SocketKind::Seqpacket);
    let listener = options.bind(socket.path()).unwrap();
    let listen = format!("seqpacket:{}", front.address());
    let mut tap = Tap::start(&listen, &socket.address(), &[]);
    assert_eq!(tap.first["listening"], listen);
    let options = ConnectOptions::default();
    let to = front.address().parse().unwrap();
    let (client, server) = tokio::join!(connect_packet(&to, &options), accepted(listener));
    let (client, server) = (client.unwrap().0, server.into_packet().unwrap());

    // Nothing, little, and all that a default buffer takes: nothing is glued, cut or lost.
    let longest = vec![7; client.message_bytes_max().unwrap()];
    let mut buffer = vec![0; longest.len() + 1];
    for bytes in [&[][..], &[1], &longest, &[]] {
        client
            .send(&[IoSlice::new(bytes)], &[file("hi").as_fd()])
            .await
            .unwrap();
        let mut got = packet(&server, &mut buffer).await;
        assert!(buffer[..got.length] == *bytes, "{} bytes", got.length);
        assert_eq!(content(got.fds.pop().unwrap()), "hi");
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert!(server.recv(&mut buffer).await.unwrap().is_end());
    server.send(&[IoSlice::new(&[1])], &[]).await.unwrap();
    server.send(&[IoSlice::new(&[2, 3])], &[]).await.unwrap();
    assert_eq!(packet(&client, &mut buffer).await.length, 1);
    assert_eq!(packet(&client, &mut buffer).await.length, 2);
    drop(server);
    assert!(client.recv(&mut buffer).await.unwrap().is_end());

    let lines = tap.lines();
    let end = lines
        .iter()
        .find(|line| line["what"] == "end" && line["from"] == "client");
    let end = end.unwrap();
    assert_eq!(
        (&end["pieces"], &end["descriptors"]),
        (&4.into(), &4.into())
    );
    assert_eq!(tap.stop(), 0);
}

#[tokio::test]
async fn drpc_calls_are_shown_by_name_in_both_framings() {
    for framing in ["chunked", "legacy"] {
        let (socket, front) = (TempSocket::private(), TempSocket::private());
        let listen = format!("drpc:{}", socket.address());
        let _serving = Serving::start(&[&listen], &[]);
        let tapped = format!("drpc:{}", front.address());
        let mut tap = Tap::start(&tapped, &socket.address(), &[]);
        let arguments = ["drpc", &front.address(), "test", "greeting", "0a0162"];
        let ran = nigh(&[&arguments[..], &["--framing", framing]].concat()).await;
        assert_eq!(
            (ran.code, &*ran.stdout),
            (0, "0a0748656c6c6f2062\n"),
            "{}",
            ran.stderr
        );
        let lines = tap.lines();
        let call = find(&lines, "call");
        assert_eq!(
            (&call["method"], &call["framing"]),
            (&"TEST/GREETING".into(), &framing.into())
        );
        let response = find(&lines, "response");
        assert_eq!(response["status"], "SUCCESS");
        assert_eq!(response["body"], "0a0748656c6c6f2062");
        assert!(response["took_us"].as_u64().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    let (socket, front) = (TempSocket::private(), TempSocket::private());
    let mut tap = Tap::start(&front.address(), &socket.address(), &[]);
    let options = ConnectOptions::default();
    let (stream, _) = connect(&front.address().parse().unwrap(), &options)
        .await
        .unwrap();
    let mut line = String::new();
    while !line.contains("no server is there") {
        line.clear();
        assert_ne!(tap.stdout.read_line(&mut line).unwrap(), 0);
    }
    drop(stream);
    assert_eq!(tap.stop(), 0);
}
