//! Whether the other side speaks HTTP/2 at all: hyper calls a connection made as soon as it has written to it.
//!
//! A server begins with SETTINGS (RFC 9113 3.4); [`Greeted`] looks at the first frame's head as it is read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// RFC 9113 4.1: three bytes of length, then type, flags and the stream.
const HEAD_BYTES: usize = 9;
const SETTINGS: u8 = 4;

pin_project! {
    /// A client's stream that tells when the server's greeting has come, or what came instead.
    #[derive(Debug)]
    pub(super) struct Greeted<S> {
        #[pin]
        stream: S,
        head: Vec<u8>,
        // Gone once it has been told.
        told: Option<oneshot::Sender<io::Result<()>>>,
    }
}

/// The server's greeting, to be awaited while the connection is driven.
#[derive(Debug)]
pub(super) struct Greeting(oneshot::Receiver<io::Result<()>>);

impl Greeting {
    /// Completes with the greeting, or with what is wrong with it.
    pub(super) async fn came(self) -> io::Result<()> {
        self.0.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Whether the server hung up without a word, as one does that is killed with callers in its backlog.
pub(super) fn is_silent_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server closed the connection without a word",
    )
}

impl<S> Greeted<S> {
    /// Wraps a stream of which nothing has been read.
    pub(super) fn new(stream: S) -> (Self, Greeting) {
        let (told, greeting) = oneshot::channel();
        let greeted = Self {
            stream,
            head: Vec::with_capacity(HEAD_BYTES),
            told: Some(told),
        };
        (greeted, Greeting(greeting))
    }
}

/// What the first bytes say: `None` while there are too few.
fn judge(head: &[u8], ended: bool) -> Option<io::Result<()>> {
    let settings = |(index, byte): (usize, &u8)| match index {
        3 => *byte == SETTINGS,
        // Neither an acknowledgement nor on any stream; the first bit is reserved.
        4 => byte & 1 == 0,
        5 => byte & 0x7f == 0,
        6..=8 => *byte == 0,
        _ => true,
    };
    if !head.iter().enumerate().all(settings) {
        let text = format!("the server began with \"{}\"", head.escape_ascii());
        return Some(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    match (head.len() == HEAD_BYTES, ended, head.is_empty()) {
        (true, ..) => Some(Ok(())),
        (false, false, _) => None,
        (false, true, true) => Some(Err(closed())),
        (false, true, false) => {
            let text = format!("the server ended after \"{}\"", head.escape_ascii());
            Some(Err(io::Error::new(io::ErrorKind::InvalidData, text)))
        }
    }
}

impl<S: AsyncRead> AsyncRead for Greeted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.told.is_none() || buf.remaining() == 0 {
            return this.stream.poll_read(cx, buf);
        }
        let before = buf.filled().len();
        let polled = ready!(this.stream.poll_read(cx, buf));
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let wanted = HEAD_BYTES.saturating_sub(this.head.len());
        this.head.extend(fresh.iter().take(wanted));
        let verdict = match &polled {
            Ok(()) => judge(this.head, fresh.is_empty()),
            Err(error) => Some(Err(io::Error::new(error.kind(), error.to_string()))),
        };
        if let Some(verdict) = verdict
            && let Some(told) = this.told.take()
        {
            // Nobody listens when connecting was given up.
            let _ = told.send(verdict);
        }
        Poll::Ready(polled)
    }
}

impl<S: AsyncWrite> AsyncWrite for Greeted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nigh_testkit::scripted::{Scripted, Step};
    use tokio::io::AsyncReadExt as _;

    async fn told(steps: impl IntoIterator<Item = Step>) -> io::Result<()> {
        let (mut greeted, greeting) = Greeted::new(Scripted::new(steps));
        let mut all = Vec::new();
        let _ = greeted.read_to_end(&mut all).await;
        greeting.came().await
    }

    #[tokio::test]
    async fn only_settings_are_a_greeting_however_they_are_split() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9];
        let whole = [Step::Data(settings.to_vec()), Step::Eof];
        told(whole).await.unwrap();
        let bytes = settings.map(|byte| Step::Data(vec![byte]));
        told(bytes.into_iter().chain([Step::Eof])).await.unwrap();
        for (index, wrong) in [(3, 0), (4, 1), (5, 1), (8, 1)] {
            let mut other = settings;
            other[index] = wrong;
            let error = told([Step::Data(other.to_vec()), Step::Eof]).await;
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn an_end_before_the_greeting_says_so() {
        assert!(is_silent_end(&told([Step::Eof]).await.unwrap_err()));
        let reset = [Step::Error(io::ErrorKind::ConnectionReset), Step::Eof];
        assert!(is_silent_end(&told(reset).await.unwrap_err()));
        let cut = told([Step::Data(vec![0, 0, 6]), Step::Eof]).await;
        assert!(!is_silent_end(&cut.unwrap_err()));
    }
}
