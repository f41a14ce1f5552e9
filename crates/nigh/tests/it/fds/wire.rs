//! An end written from docs/wire/descriptors.md alone: tonic's own client over a socket that puts extension frames between
//! those of HTTP/2. What an honest client never sends is refused with the limit's name, and other calls go on.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use nigh::FdLimits;
use nigh_socket::UnixStream;
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::service::{message, named, serve};
use crate::common::Served;

/// An extension frame [2.1] and the descriptors of its first byte [5.1].
type Extension = (Vec<u8>, Vec<OwnedFd>);

#[derive(Debug, Default)]
struct Script {
    /// Goes out at the next boundary between frames [2.4].
    waiting: VecDeque<Extension>,
    came: Vec<u8>,
}

/// A socket below HTTP/2 that sends what the script says. HTTP/2 flushes at the end of a frame only.
#[derive(Debug)]
struct Scripted {
    socket: UnixStream,
    script: Arc<Mutex<Script>>,
    heard: Arc<Notify>,
    is_boundary: bool,
    /// Bytes written, and where the first SETTINGS end, once that is known.
    written: usize,
    settings_end: Option<usize>,
}

/// RFC 9113, 3.4.
const PREFACE_BYTES: usize = 24;

impl Scripted {
    /// How many of these bytes may go before HELLO, which stands right behind the first SETTINGS [3.1].
    fn until_hello(&mut self, bytes: &[u8]) -> usize {
        if self.written < PREFACE_BYTES {
            return bytes.len().min(PREFACE_BYTES - self.written);
        }
        let end = *self.settings_end.get_or_insert_with(|| {
            let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            PREFACE_BYTES + 9 + length as usize
        });
        match end.checked_sub(self.written) {
            Some(left) if left > 0 => bytes.len().min(left),
            _ => bytes.len(),
        }
    }

    fn poll_extensions(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_boundary {
            return Poll::Ready(Ok(()));
        }
        let mut script = self.script.lock().unwrap();
        while let Some((frame, fds)) = script.waiting.front() {
            let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            let slices = [IoSlice::new(frame)];
            match ready!(self.socket.poll_send_with_fds(cx, &slices, &fds)) {
                Ok(sent) => assert_eq!(sent, frame.len()),
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
            script.waiting.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        self.script.lock().unwrap().came.extend_from_slice(fresh);
        self.heard.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_extensions(cx))?;
        let most = self.until_hello(bytes);
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &bytes[..most]))?;
        self.written += written;
        self.is_boundary = self.settings_end == Some(self.written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_boundary = self.settings_end.is_some_and(|end| self.written >= end);
        ready!(self.poll_extensions(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), 0xfd];
    frame.extend([0; 5]);
    frame.extend(payload);
    frame
}

/// HELLO of version 1 [3.4]: takes none, so that the server has nothing to answer descriptors with.
fn hello() -> Vec<u8> {
    let mut bytes = frame(b"\x01nigh\x01\x00\x00\x40\x00\x00\x04\x00");
    bytes.extend(b"\x00\x00\x08\x06\x00\x00\x00\x00\x00nigh-fds");
    bytes
}

fn fds(loss: u8, first: u32, count: u16, call: u64) -> Vec<u8> {
    let mut payload = vec![2, loss];
    payload.extend(count.to_be_bytes());
    payload.extend(first.to_be_bytes());
    payload.extend(call.to_be_bytes());
    frame(&payload)
}

struct Peer {
    client: TestClient<Channel>,
    script: Arc<Mutex<Script>>,
    calls: u64,
}

impl Peer {
    /// Connects, greets [3.1] and waits for the server's HELLO [3.2].
    async fn connect(served: &Served) -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        script
            .lock()
            .unwrap()
            .waiting
            .push_back((hello(), Vec::new()));
        let heard = Arc::new(Notify::new());
        let connected = std::os::unix::net::UnixStream::connect(served.socket.path()).unwrap();
        connected.set_nonblocking(true).unwrap();
        let mut socket = Some(Scripted {
            socket: UnixStream::new(connected.into()).unwrap(),
            script: Arc::clone(&script),
            heard: Arc::clone(&heard),
            is_boundary: false,
            written: 0,
            settings_end: None,
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let connector = tower::service_fn(move |_: http::Uri| {
            let socket = socket.take().map(hyper_util::rt::TokioIo::new);
            std::future::ready(socket.ok_or(io::Error::from(io::ErrorKind::NotConnected)))
        });
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let theirs = b"\x00\x00\x0d\xfd\x00\x00\x00\x00\x00\x01nigh\x01\x01";
        loop {
            let came = script.lock().unwrap().came.clone();
            if came.windows(theirs.len()).any(|window| window == theirs) {
                break;
            }
            heard.notified().await;
        }
        let client = TestClient::new(channel);
        Self {
            client,
            script,
            calls: 0,
        }
    }

    /// A call with these FDS frames before it.
    async fn call(
        &mut self,
        extensions: impl FnOnce(u64) -> Vec<Extension>,
    ) -> Result<Payload, Status> {
        let number = self.calls;
        self.calls += 1;
        self.script
            .lock()
            .unwrap()
            .waiting
            .extend(extensions(number));
        let mut request = Request::new(message(&[], 0));
        let number = number.to_string().parse().unwrap();
        request.metadata_mut().insert("nigh-call", number);
        Ok(self.client.echo(request).await?.into_inner())
    }
}

fn files(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| named("x")).collect()
}

#[tokio::test]
async fn each_way_to_lose_a_descriptor_is_told_by_its_name() {
    let mut limits = FdLimits::default();
    limits.per_message_max = 3;
    limits.per_call_max = 5;
    let (served, _) = serve(limits, |server| server);
    let mut peer = Peer::connect(&served).await;
    let one = |count: u16| move |call| vec![(fds(0, 0, count, call), files(count.into()))];
    peer.call(one(3)).await.unwrap();
    let exhausted = Code::ResourceExhausted;
    for (sent, code, words) in [
        // [6.2] more in one frame than the server takes.
        (
            peer.call(one(4)).await,
            exhausted,
            "the limit of 3 descriptors in one message",
        ),
        (
            peer.call(|call| {
                vec![
                    (fds(0, 0, 3, call), files(3)),
                    (fds(0, 3, 3, call), files(3)),
                ]
            })
            .await,
            exhausted,
            "the limit of 5 descriptors in one call",
        ),
        // [6.1] what the sender's kernel said.
        (
            peer.call(|call| vec![(fds(1, 0, 2, call), Vec::new())])
                .await,
            exhausted,
            "ETOOMANYREFS",
        ),
        (
            peer.call(|call| vec![(fds(2, 0, 2, call), Vec::new())])
                .await,
            Code::FailedPrecondition,
            "EPERM",
        ),
        (
            peer.call(|call| vec![(fds(9, 0, 2, call), Vec::new())])
                .await,
            exhausted,
            "refused to pass",
        ),
        // [6.2] count and index have to agree.
        (
            peer.call(|call| vec![(fds(0, 0, 2, call), files(1))]).await,
            Code::Internal,
            "2 descriptors were announced and 1 came",
        ),
        (
            peer.call(|call| vec![(fds(0, 1, 1, call), files(1))]).await,
            Code::Internal,
            "announced",
        ),
    ] {
        let status = sent.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
        peer.call(one(3)).await.unwrap();
    }
    assert_eq!(served.counts().connections_admitted, 1);
    served.stop().await;
}

#[tokio::test]
async fn a_number_of_a_call_is_used_once_and_is_a_number() {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut peer = Peer::connect(&served).await;
    for number in ["x", "-1", "18446744073709551616"] {
        let mut request = Request::new(message(&[], 0));
        let number = number.parse().unwrap();
        request.metadata_mut().insert("nigh-call", number);
        let status = peer.client.echo(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "[4.1] {status}");
    }
    // [1.3] malformed: the connection ends.
    let failed = peer.call(|_| vec![(frame(&[2, 0]), Vec::new())]).await;
    let code = failed.unwrap_err().code();
    // In tonic's words.
    assert!(matches!(code, Code::Unavailable | Code::Unknown), "{code}");
    assert!(peer.call(|_| Vec::new()).await.is_err());
    served.stop().await;
}

#[tokio::test]
async fn who_takes_none_is_sent_none() {
    let (served, _) = serve(FdLimits::default(), |server| server);
    let mut peer = Peer::connect(&served).await;
    // The server's mirror cannot give back to this client [3.4], and says so before anything is lost.
    peer.script
        .lock()
        .unwrap()
        .waiting
        .push_back((fds(0, 0, 1, 0), vec![named("there")]));
    let mut request = Request::new(message(&[0.into()], 0));
    let number = "0".parse().unwrap();
    request.metadata_mut().insert("nigh-call", number);
    let answer = peer.client.echo(request).await;
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    served.stop().await;
}
