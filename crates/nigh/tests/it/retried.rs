//! Calls that a server has certainly not seen are made again, unseen by their caller; all others fail once. The servers
//! are scripts: bytes by hand, over both wires.

use std::sync::{Arc, Mutex};

use nigh::{Channel, Wire};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::test_client::TestClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tonic::Code;

use crate::common::{Served, bind, payload};
use crate::frames;

/// What a server does when a call's first message has come.
#[derive(Debug, Clone, Copy)]
enum Act {
    Answer,
    /// Says that nobody looks at it.
    Refuse,
    /// Says goodbye, and that it has seen the calls up to this one (true), or before it.
    Leave(bool),
    /// Says goodbye for the first time, and answers.
    First,
    /// Is gone without a word.
    Die,
    /// Fails the call, as a handler does.
    Fail,
}

/// Calls as they came: connection, stream, first message.
type Seen = Arc<Mutex<Vec<(usize, u32, Vec<u8>)>>>;

/// A server of which each connection does with its calls what is written.
struct Script {
    place: TempSocket,
    seen: Seen,
}

impl Script {
    fn start(wire: Wire, acts: &'static [&'static [Act]]) -> Self {
        let place = TempSocket::private();
        let seen = Seen::default();
        let listener = UnixListener::bind(place.path()).unwrap();
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            for (number, acts) in acts.iter().enumerate() {
                let (stream, _) = listener.accept().await.unwrap();
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    match wire {
                        Wire::Nigh => nigh(stream, number, acts, noted).await,
                        _ => http2(stream, number, acts, noted).await,
                    }
                });
            }
        });
        Self { place, seen }
    }

    async fn client(&self, wire: Wire) -> TestClient<Channel> {
        let options = Channel::options().wire(wire).wait(false);
        TestClient::new(
            options
                .connect(self.place.address().as_str())
                .await
                .unwrap(),
        )
    }

    /// Which connections saw how many calls.
    fn calls(&self) -> Vec<usize> {
        let seen = self.seen.lock().unwrap();
        let last = seen.iter().map(|call| call.0).max();
        let count = |number| seen.iter().filter(|call| call.0 == number).count();
        (0..last.map_or(0, |last| last + 1)).map(count).collect()
    }
}

const STREAM_MAX: u32 = 0x7fff_ffff;

fn goaway(last: u32) -> Vec<u8> {
    frames::frame(7, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

/// A gRPC answer with one empty message, or none and `grpc-status: 9`.
fn http2_answer(stream: u32, is_good: bool) -> Vec<u8> {
    // RFC 7541: `:status: 200` is indexed, the others are literals.
    let literal = |name: &str, value: &str| {
        let mut text = vec![0];
        for part in [name, value] {
            text.push(u8::try_from(part.len()).unwrap());
            text.extend(part.as_bytes());
        }
        text
    };
    let kind = literal("content-type", "application/grpc");
    let head = [vec![0x88], kind].concat();
    if !is_good {
        let head = [head, literal("grpc-status", "9")].concat();
        return frames::frame(frames::HEADERS, 5, stream, &head);
    }
    let trailers = literal("grpc-status", "0");
    [
        frames::frame(frames::HEADERS, 4, stream, &head),
        frames::frame(frames::DATA, 0, stream, &[0; 5]),
        frames::frame(frames::HEADERS, 5, stream, &trailers),
    ]
    .concat()
}

async fn http2(mut stream: UnixStream, number: usize, acts: &[Act], seen: Seen) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    let settings = frames::frame(frames::SETTINGS, 0, 0, &[]);
    stream.write_all(&settings).await.unwrap();
    let mut acts = acts.iter();
    let mut last = 0;
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut content = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut content).await.unwrap();
        let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if head[3] != frames::DATA || of <= last {
            continue;
        }
        last = of;
        seen.lock().unwrap().push((number, of, content));
        let say = match acts.next() {
            Some(Act::Answer) => http2_answer(of, true),
            Some(Act::Fail) => http2_answer(of, false),
            // RST_STREAM, REFUSED_STREAM.
            Some(Act::Refuse) => frames::frame(3, 0, of, &[0, 0, 0, 7]),
            Some(Act::Leave(true)) => [goaway(of), http2_answer(of, true)].concat(),
            Some(Act::Leave(false)) => goaway(of - 2),
            Some(Act::First) => [goaway(STREAM_MAX), http2_answer(of, true)].concat(),
            Some(Act::Die) | None => return,
        };
        // The caller may have left.
        let _ = stream.write_all(&say).await;
    }
}

/// One frame of the nigh wire (clause 3.1).
fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    let head = [
        &length.to_le_bytes()[..],
        &stream.to_le_bytes(),
        &[kind, flags, 0, 0],
    ];
    [&head.concat(), content].concat()
}

fn nigh_greeting() -> Vec<u8> {
    let numbers = [0_u32, 65536, 65536, 1 << 20, 1 << 20, 16, 0];
    let numbers = numbers.map(u32::to_le_bytes).concat();
    [b"\0nigh\r\n\x1a\x01\0\x28\0", &numbers[..]].concat()
}

fn nigh_answer(stream: u32, is_good: bool) -> Vec<u8> {
    if !is_good {
        // grpc-status (7 of clause 7.3): 9.
        return frame(1, 1, stream, b"\x07\x019");
    }
    let data = frame(2, 0, stream, &[0; 5]);
    [frame(1, 0, stream, b""), data, frame(3, 0, stream, b"")].concat()
}

async fn nigh(mut stream: UnixStream, number: usize, acts: &[Act], seen: Seen) {
    let mut greeting = [0; 40];
    stream.read_exact(&mut greeting).await.unwrap();
    stream.write_all(&nigh_greeting()).await.unwrap();
    let mut acts = acts.iter();
    let (mut head, mut begun) = ([0; 12], 0);
    let goodbye = frame(6, 0, 0, &[0; 4]);
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let mut content = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut content).await.unwrap();
        let of = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        match head[8] {
            1 => begun = of,
            2 if begun == of => begun = 0,
            _ => continue,
        }
        if begun != 0 {
            continue;
        }
        seen.lock().unwrap().push((number, of, content));
        let unseen = [frame(128, 0, of, b""), nigh_answer(of, false)].concat();
        let say = match acts.next() {
            Some(Act::Answer) => nigh_answer(of, true),
            Some(Act::Fail) => nigh_answer(of, false),
            Some(Act::Refuse) => unseen,
            Some(Act::Leave(true)) => [goodbye.clone(), nigh_answer(of, true)].concat(),
            Some(Act::Leave(false)) => [goodbye.clone(), unseen].concat(),
            Some(Act::First) => [goodbye.clone(), nigh_answer(of, true)].concat(),
            Some(Act::Die) | None => return,
        };
        // The caller may have left.
        let _ = stream.write_all(&say).await;
    }
}

const WIRES: [Wire; 2] = [Wire::Http2, Wire::Nigh];

#[tokio::test]
async fn a_call_that_the_server_has_not_looked_at_is_made_again_unnoticed() {
    const REFUSED: &[&[Act]] = &[&[Act::Answer, Act::Refuse], &[Act::Answer]];
    const LEFT: &[&[Act]] = &[&[Act::Answer, Act::Leave(false)], &[Act::Answer]];
    for (wire, acts) in WIRES
        .into_iter()
        .flat_map(|wire| [(wire, REFUSED), (wire, LEFT)])
    {
        let server = Script::start(wire, acts);
        let mut client = server.client(wire).await;
        for _ in 0..2 {
            client.echo(payload("x")).await.unwrap();
        }
        assert_eq!(server.calls(), [2, 1], "{wire:?} {acts:?}");
        let seen = server.seen.lock().unwrap();
        assert_eq!(seen[1].2, seen[2].2, "the same message");
    }
}

#[tokio::test]
async fn a_server_that_leaves_answers_what_it_has_and_gets_nothing_more() {
    for act in [Act::Leave(true), Act::First] {
        for wire in WIRES {
            const TRUE: &[&[Act]] = &[&[Act::Leave(true)], &[Act::Answer]];
            const FIRST: &[&[Act]] = &[&[Act::First], &[Act::Answer]];
            let acts = if matches!(act, Act::First) {
                FIRST
            } else {
                TRUE
            };
            let server = Script::start(wire, acts);
            let mut client = server.client(wire).await;
            for _ in 0..2 {
                client.echo(payload("x")).await.unwrap();
            }
            assert_eq!(server.calls(), [1, 1], "{wire:?} {act:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_may_have_run_is_never_made_again() {
    for wire in WIRES {
        let server = Script::start(wire, &[&[Act::Die], &[Act::Answer]]);
        let mut client = server.client(wire).await;
        let status = client.echo(payload("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{wire:?} {status}");
        assert_eq!(server.calls(), [1], "{wire:?}");
        client.echo(payload("y")).await.unwrap();
        assert_eq!(server.calls(), [1, 1], "{wire:?}");
    }
}

#[tokio::test]
async fn what_a_handler_says_is_the_callers_to_judge() {
    for wire in WIRES {
        let server = Script::start(wire, &[&[Act::Fail, Act::Answer]]);
        let mut client = server.client(wire).await;
        let status = client.echo(payload("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{wire:?}");
        client.echo(payload("y")).await.unwrap();
        assert_eq!(server.calls(), [2], "{wire:?}");
    }
}

#[tokio::test]
async fn a_call_that_nobody_looks_at_ends_after_a_few_tries() {
    const NEVER: &[&[Act]] = &[&[Act::Refuse] as &[Act]; 9];
    for wire in WIRES {
        let server = Script::start(wire, NEVER);
        let status = server.client(wire).await.echo(payload("x")).await;
        assert_eq!(status.unwrap_err().code(), Code::Unavailable, "{wire:?}");
        assert_eq!(server.calls(), [1; 5], "{wire:?}");
    }
}

#[tokio::test]
async fn a_stream_that_has_begun_is_made_again_from_its_beginning() {
    for wire in WIRES {
        let server = Script::start(wire, &[&[Act::Refuse], &[Act::Answer]]);
        let mut client = server.client(wire).await;
        let (say, words) = tokio::sync::mpsc::channel(4);
        say.send(payload("first")).await.unwrap();
        let words = tokio_stream::wrappers::ReceiverStream::new(words);
        let mut chat = client.chat(words).await.unwrap().into_inner();
        assert!(chat.message().await.unwrap().is_some(), "{wire:?}");
        let seen = server.seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 2, "{wire:?}");
        assert_eq!(seen[0].2, seen[1].2, "{wire:?}");
        drop(say);
    }
}

/// As one that is killed: its successor has the same listener.
#[tokio::test]
async fn a_server_that_ends_before_its_greeting_is_left_for_the_next() {
    for wire in WIRES {
        let place = TempSocket::private();
        let listener = UnixListener::bind(place.path()).unwrap();
        let seen = Seen::default();
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            let (mut ended, _) = listener.accept().await.unwrap();
            ended.read_exact(&mut [0; 24]).await.unwrap();
            ended.shutdown().await.unwrap();
            let (next, _) = listener.accept().await.unwrap();
            drop(ended);
            match wire {
                Wire::Nigh => nigh(next, 1, &[Act::Answer], noted).await,
                _ => http2(next, 1, &[Act::Answer], noted).await,
            }
        });
        let options = Channel::options().wire(wire).wait(false);
        let channel = options.connect(place.address().as_str()).await.unwrap();
        TestClient::new(channel).echo(payload("x")).await.unwrap();
        assert_eq!(seen.lock().unwrap().len(), 1, "{wire:?}");
    }
}

/// A server that leaves is heard out: its goodbye waits unread when a piece of the call meets the closed socket.
#[tokio::test]
async fn a_goodbye_is_heard_though_a_write_failed_first() {
    let place = TempSocket::private();
    let listener = UnixListener::bind(place.path()).unwrap();
    let channel = Channel::options().wire(Wire::Http2).wait(false);
    let address = place.address();
    let connecting = channel.connect(address.as_str());
    let (channel, mut leaving) = tokio::join!(connecting, async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let settings = frames::frame(frames::SETTINGS, 0, 0, &[]);
        stream.write_all(&settings).await.unwrap();
        stream
    });
    let mut client = TestClient::new(channel.unwrap());
    let (say, words) = tokio::sync::mpsc::channel(4);
    let words = tokio_stream::wrappers::ReceiverStream::new(words);
    let mut chat = tokio::spawn(async move { client.chat(words).await });
    let mut preface = [0; 24];
    leaving.read_exact(&mut preface).await.unwrap();
    frames::read_until(&mut leaving, frames::HEADERS, 1).await;
    // In one step of this thread, so that the channel writes before it hears.
    let mut leaving = leaving.into_std().unwrap();
    std::io::Write::write_all(&mut leaving, &goaway(0)).unwrap();
    drop(leaving);
    say.try_send(payload("first")).unwrap();
    let (stream, _) = tokio::select! {
        accepted = listener.accept() => accepted.unwrap(),
        lost = &mut chat => panic!("{lost:?}"),
    };
    let seen = Seen::default();
    tokio::spawn(http2(stream, 1, &[Act::Answer], Arc::clone(&seen)));
    let mut chat = chat.await.unwrap().unwrap().into_inner();
    assert!(chat.message().await.unwrap().is_some());
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_deadline_spans_all_tries() {
    const NEVER: &[&[Act]] = &[&[Act::Refuse] as &[Act]; 9];
    for wire in WIRES {
        let server = Script::start(wire, NEVER);
        let mut client = server.client(wire).await;
        let mut request = tonic::Request::new(payload("x"));
        request.set_timeout(std::time::Duration::from_secs(60));
        let status = client.echo(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{wire:?} {status}");
    }
}

/// The two ends of nigh: a server that stops refuses in a way that its callers understand.
#[tokio::test]
async fn calls_refused_by_a_draining_server_reach_its_successor() {
    for wire in WIRES {
        let mut first = Served::plain();
        let options = Channel::options().wire(wire);
        let channel = options.connect(first.address()).await.unwrap();
        let mut client = TestClient::new(channel);
        let mut holding = client.clone();
        let held = tokio::spawn(async move { holding.hold(payload("held")).await });
        first.service.started(1).await;
        first.begin_stop();
        let path = first.socket.path().to_owned();
        while path.exists() {
            tokio::task::yield_now().await;
        }
        // The connection is still there, with a call on it; the next one waits for a server that takes it.
        let late = tokio::spawn(async move { client.echo(payload("late")).await });
        let service = first.service.clone();
        tokio::task::yield_now().await;
        service.release();
        assert_eq!(held.await.unwrap().unwrap().into_inner().data, b"held");
        let (socket, drained) = first.leave().await;
        assert_eq!(drained.cut_off, 0, "{wire:?}");
        let listener = bind(&socket, 0o600);
        let second = Served::on(socket, listener, |server| server);
        assert_eq!(late.await.unwrap().unwrap().into_inner().data, b"late");
        assert_eq!(service.runs().started, 1);
        assert_eq!(second.service.runs().started, 1);
        second.stop().await;
    }
}

/// A call that begins in the moment in which its connection ends is not forgotten with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_begun_while_their_connection_ends_come_to_an_end() {
    const CALLERS: usize = 8;
    const CALLS: usize = 500;
    for wire in WIRES {
        let server = Script::start(wire, &[&[Act::Die] as &[Act]; CALLERS * CALLS]);
        let client = server.client(wire).await;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let mut client = client.clone();
            callers.spawn(async move {
                for _ in 0..CALLS {
                    let status = client.echo(payload("x")).await.unwrap_err();
                    assert_eq!(status.code(), Code::Unavailable, "{status}");
                }
            });
        }
        let ended = async { while callers.join_next().await.is_some() {} };
        let time = std::time::Duration::from_secs(30);
        tokio::time::timeout(time, ended).await.unwrap();
    }
}
