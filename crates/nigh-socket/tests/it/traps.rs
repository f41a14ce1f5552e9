//! Traps of the kernel that no other test meets: see docs/traps.md for all of them.
#![expect(
    clippy::unwrap_used,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nigh_socket::{
    Address, BindFault, ConnectOptions, Fact, Listener, Peer, RecvError, SendError, SocketKind,
    Source, Stream, UnixDatagram, UnixSeqpacket, connect, connect_packet,
};
use nigh_testkit::{TempSocket, child_variable, require_root, skip_unless};

fn text(text: &str) -> [IoSlice<'_>; 1] {
    [IoSlice::new(text.as_bytes())]
}

#[tokio::test]
async fn the_death_of_a_datagram_peer_is_told_by_a_send_alone() {
    let (a, b) = UnixDatagram::pair().unwrap();
    drop(b);
    assert!(matches!(
        a.try_recv(&mut [0; 8]),
        Err(RecvError::WouldBlock)
    ));
    assert!(matches!(
        a.try_send(&text("x"), &[]),
        Err(SendError::NoReceiver | SendError::Closed)
    ));
}

#[tokio::test]
async fn a_queue_that_one_sender_filled_is_full_for_the_others_who_are_told() {
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Datagram);
    let server = UnixDatagram::bound(options.bind(place.path()).unwrap()).unwrap();
    let at = Address::Path(place.path().into());
    let (idle, other) = (
        UnixDatagram::unbound().unwrap(),
        UnixDatagram::unbound().unwrap(),
    );
    let mut filled = 0;
    while idle.try_send_to(&text("x"), &[], &at).is_ok() {
        filled += 1;
    }
    let most = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    assert_eq!(filled, most.trim().parse::<u32>().unwrap() + 1);
    let refused = other.try_send_to(&text("y"), &[], &at);
    assert!(matches!(refused, Err(SendError::WouldBlock)));
    // Or it waits, by choice, and is not lost.
    let slices = text("y");
    let (sent, ()) = tokio::join!(other.send_to(&slices, &[], &at), async {
        for _ in 0..=filled {
            server.recv(&mut [0; 8]).await.unwrap();
        }
    });
    sent.unwrap();
}

#[tokio::test]
async fn an_abstract_name_is_another_for_each_type_and_for_each_length() {
    let name = format!("nigh-traps-{}", std::process::id());
    let address = Address::Abstract(name.clone().into_bytes());
    let stream = Listener::options().bind(&address).unwrap();
    let packets = Listener::options().kind(SocketKind::Seqpacket);
    // Not exclusive across types: whoever wants one instance has to use one type.
    let other = packets.bind(&address).unwrap();
    let taken = Listener::options().bind(&address).unwrap_err();
    assert!(matches!(taken.fault(), BindFault::InUse));
    let options = ConnectOptions::default().wait(false);
    connect(&address, &options).await.unwrap();
    connect_packet(&address, &options).await.unwrap();
    let padded = Address::Abstract([name.as_bytes(), &[0]].concat());
    connect(&padded, &options).await.unwrap_err();
    drop((stream, other));
}

#[tokio::test]
async fn who_asks_for_senders_without_a_name_gets_one() {
    let place = TempSocket::private();
    let options = Listener::options().kind(SocketKind::Datagram);
    let _server = options.bind(place.path()).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.connect(&Address::Path(place.path().into())).unwrap();
    assert_eq!(client.local_address().unwrap(), None);
    client.set_pass_credentials(true).unwrap();
    client.try_send(&text("x"), &[]).unwrap();
    let name = client.local_address().unwrap();
    assert!(matches!(name, Some(Address::Abstract(_))), "{name:?}");
}

/// This test binary with one of its functions, and its standard input.
fn child(wrapper: &[&str], test: &str, variable: &str, stdin: Stdio) -> std::process::Child {
    let program = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = wrapper.to_vec();
    words.push(program.to_str().unwrap());
    Command::new(words[0])
        .args(&words[1..])
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env("NIGH_TRAP", variable)
        .stdin(stdin)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "runs as a child of ids_of_a_connection_are_effective_and_those_of_a_message_real"]
async fn sends_one_packet() {
    let address = child_variable("NIGH_TRAP").parse().unwrap();
    let (socket, _) = connect_packet(&address, &ConnectOptions::default())
        .await
        .unwrap();
    socket.send(&text("x"), &[]).await.unwrap();
    // Until it was looked at.
    assert!(socket.recv(&mut [0; 8]).await.unwrap().is_end());
}

#[tokio::test]
async fn ids_of_a_connection_are_effective_and_those_of_a_message_real() {
    require_root!();
    const REAL: u32 = 61_995;
    let place = TempSocket::shared();
    let options = Listener::options().kind(SocketKind::Seqpacket);
    let listener = options.pass_credentials(true).bind(place.path()).unwrap();
    let mut acceptor = nigh_socket::Acceptor::new(listener).unwrap();
    let setpriv = ["setpriv", "--ruid=61995", "--clear-groups", "--"];
    let test = "traps::sends_one_packet";
    let mut child = child(&setpriv, test, &place.address(), Stdio::null());
    let incoming = acceptor.accept().await.unwrap();
    let Peer::Local(peer) = incoming.peer().clone() else {
        panic!("a Unix socket");
    };
    assert_eq!(peer.uid().value(), Some(&0));
    let connection = incoming.admit(&nigh_socket::Policy::any()).unwrap();
    let (transport, ..) = connection.into_parts();
    let socket: UnixSeqpacket = transport.into_packet().unwrap();
    let packet = socket.recv(&mut [0; 8]).await.unwrap();
    let sender = packet.into_packet().unwrap().sender.unwrap();
    let source = Source::MessageCredentials;
    assert_eq!(
        sender.uid(),
        &Fact::Known {
            value: REAL,
            source
        }
    );
    drop(socket);
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "runs as a child of a_client_sees_who_listened_and_not_who_serves"]
fn serves_what_it_was_given() {
    // Standard input is the listening socket.
    let socket = std::os::fd::AsFd::as_fd(&std::io::stdin())
        .try_clone_to_owned()
        .unwrap();
    let listener = Listener::options().adopt(socket).unwrap();
    rustix::io::ioctl_fionbio(&listener, false).unwrap();
    let mut caller = std::os::unix::net::UnixStream::from(listener.accept().unwrap());
    rustix::io::ioctl_fionbio(&caller, false).unwrap();
    write!(caller, "{}", std::process::id()).unwrap();
}

#[tokio::test]
async fn a_client_sees_who_listened_and_not_who_serves() {
    let place = TempSocket::private();
    let listener = Listener::options().bind(place.path()).unwrap();
    let copy: OwnedFd = std::os::fd::AsFd::as_fd(&listener)
        .try_clone_to_owned()
        .unwrap();
    let test = "traps::serves_what_it_was_given";
    let mut child = child(&[], test, "", Stdio::from(copy));
    let (stream, peer) = connect(listener.address(), &ConnectOptions::default())
        .await
        .unwrap();
    let Peer::Local(peer) = peer else {
        panic!("a Unix socket");
    };
    // Which is why a client demands a user, and never acts on a pid.
    assert_eq!(peer.pid().value(), Some(&std::process::id()));
    assert_eq!(peer.pid().source(), Source::PeerCred);
    let Stream::Unix(stream) = stream else {
        panic!("a Unix socket");
    };
    skip_unless!(child.try_wait().is_ok(), "the child did not start");
    let fd = rustix::io::fcntl_dupfd_cloexec(&stream, 0).unwrap();
    let mut answer = String::new();
    rustix::io::ioctl_fionbio(&fd, false).unwrap();
    let mut stream = std::os::unix::net::UnixStream::from(fd);
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, child.id().to_string());
    assert!(child.wait().unwrap().success());
}
