//! A client's stream that hears its server out: a broken write ends nothing before all that was said is read.
//!
//! A server that leaves says which calls it has seen, then closes (RFC 9113 6.8). A write that meets the closed socket
//! fails while those words still wait to be read, and h2 gives a connection up at its first failed write: answers that
//! have come, and the calls that could be made again, would be lost with it.

use std::future::Future as _;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::traffic::Traffic;

/// How long a server is heard that takes nothing more. One that has closed its socket is heard at once: Linux gives
/// what came before the end first, on Unix sockets as on TCP. Only one that closed its ears alone can make us wait.
const HEARING_TIME: Duration = Duration::from_secs(1);

pin_project! {
    /// Takes writes and drops them once one has failed; fails when the server has nothing left to say.
    #[derive(Debug)]
    pub(super) struct HeardOut<S> {
        #[pin]
        stream: S,
        traffic: Arc<Traffic>,
        broken: Option<Broken>,
    }
}

/// Of a stream that can be written no more.
#[derive(Debug)]
struct Broken {
    why: io::Error,
    until: Pin<Box<Sleep>>,
}

impl<S> HeardOut<S> {
    /// Wraps the stream that `traffic` tells of.
    pub(super) fn new(stream: S, traffic: Arc<Traffic>) -> Self {
        Self {
            stream,
            traffic,
            broken: None,
        }
    }
}

/// What the writer is told of `polled`, where it wants `taken` if nothing can be written any more.
fn told<T>(
    polled: Poll<io::Result<T>>,
    taken: T,
    traffic: &Traffic,
    broken: &mut Option<Broken>,
    cx: &Context<'_>,
) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(Err(why)) => {
            // The next call goes elsewhere.
            traffic.leaves();
            let until = Box::pin(tokio::time::sleep(HEARING_TIME));
            *broken = Some(Broken { why, until });
            // A reader that sleeps would not notice.
            cx.waker().wake_by_ref();
            Poll::Ready(Ok(taken))
        }
        other => other,
    }
}

impl<S: AsyncRead> AsyncRead for HeardOut<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let read = this.stream.poll_read(cx, buf);
        if let Some(broken) = this.broken
            && read.is_pending()
            && broken.until.as_mut().poll(cx).is_ready()
        {
            let again = io::Error::from(ErrorKind::BrokenPipe);
            return Poll::Ready(Err(std::mem::replace(&mut broken.why, again)));
        }
        read
    }
}

impl<S: AsyncWrite> AsyncWrite for HeardOut<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.broken.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = this.stream.poll_write(cx, buf);
        told(written, buf.len(), this.traffic, this.broken, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if this.broken.is_some() {
            return Poll::Ready(Ok(all));
        }
        let written = this.stream.poll_write_vectored(cx, bufs);
        told(written, all, this.traffic, this.broken, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = this.stream.poll_flush(cx);
        told(flushed, (), this.traffic, this.broken, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        match this.broken {
            None => this.stream.poll_shutdown(cx),
            Some(_) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nigh_testkit::scripted::{Scripted, Step, WriteStep};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn broken(reads: impl IntoIterator<Item = Step>) -> HeardOut<Scripted> {
        let stream = Scripted::new(reads);
        let stream = stream.writes([WriteStep::Error(ErrorKind::ConnectionReset)]);
        HeardOut::new(stream, Arc::new(Traffic::new()))
    }

    #[tokio::test]
    async fn what_was_said_is_read_after_a_write_has_failed() {
        let steps = [
            Step::Data(b"an answer, ".to_vec()),
            Step::Data(b"goodbye".to_vec()),
            Step::Eof,
        ];
        let mut stream = broken(steps);
        for _ in 0..2 {
            stream.write_all(b"lost").await.unwrap();
            stream.flush().await.unwrap();
        }
        assert!(stream.traffic.is_leaving());
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "an answer, goodbye");
        stream.shutdown().await.unwrap();
        assert_eq!(stream.stream.script().written(), b"");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_only_closed_its_ears_is_waited_for_no_longer_than_that() {
        let began = tokio::time::Instant::now();
        let mut stream = broken([Step::Data(b"half a wo".to_vec())]);
        stream.write_all(b"lost").await.unwrap();
        let mut heard = [0; 9];
        stream.read_exact(&mut heard).await.unwrap();
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe] {
            let error = stream.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), kind);
        }
        assert_eq!(began.elapsed().as_secs(), HEARING_TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_sleeps_is_woken_by_the_failed_write() {
        let (mut reader, mut writer) = tokio::io::split(broken([]));
        let (read, written) = tokio::join!(reader.read_u8(), writer.write_all(b"lost"));
        written.unwrap();
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
