//! The HTTP/2 wire: every gRPC client speaks it. hyper and h2 do the protocol (RFC 9113).

use http::Request;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

use super::{Claim, Served, Session, Wire, WireError};
use crate::fd::Tap;
use crate::http2::io::AuthorityFixed;
use crate::io::Io;
use crate::tasks::{Spawner, Tasks};

/// RFC 9113 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug)]
pub(super) struct Http2;

impl Wire for Http2 {
    fn name(&self) -> &'static str {
        "http/2"
    }

    fn claim(&self, first: &[u8]) -> Claim {
        if first.starts_with(PREFACE) {
            Claim::Mine
        } else if PREFACE.starts_with(first) {
            Claim::Undecided
        } else {
            Claim::NotMine
        }
    }

    fn serve(&self, io: Io, session: Session) -> Served {
        Box::pin(async move {
            let limits = &session.limits.http2;
            // Dropped with this future, and the connection's handlers with it.
            let tasks = Tasks::default();
            let mut builder = http2::Builder::new(tasks.spawner());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.concurrent_streams_max)
                .max_header_list_size(limits.header_list_bytes_max)
                .initial_stream_window_size(limits.stream_window_bytes)
                .initial_connection_window_size(limits.connection_window_bytes)
                .max_frame_size(limits.frame_bytes_max)
                .max_send_buf_size(limits.send_buffer_bytes_max)
                .max_pending_accept_reset_streams(limits.pending_resets_max)
                .keep_alive_interval(limits.keepalive_for(session.calls.is_local()))
                .keep_alive_timeout(limits.keepalive_timeout);
            match io.link() {
                Some(link) => serve(&builder, Tap::new(io, link), &session).await,
                None => serve(&builder, io, &session).await,
            }
        })
    }
}

async fn serve<S>(
    builder: &http2::Builder<Spawner>,
    stream: S,
    session: &Session,
) -> Result<(), WireError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let calls = session.calls.clone();
    let service = hyper::service::service_fn(move |request: Request<_>| {
        let answer = calls.answer(request.map(Body::new), None);
        async move {
            let answer = answer.await;
            match answer.is_unseen() {
                // RFC 9113 8.7: the caller may send it again, and gRPC clients do so by themselves.
                true => Err(h2::Error::from(h2::Reason::REFUSED_STREAM)),
                false => Ok(answer.watched()),
            }
        }
    });
    let io = TokioIo::new(AuthorityFixed::new(stream));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = session.ending() => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_preface_is_claimed() {
        assert_eq!(Http2.claim(PREFACE), Claim::Mine);
        for length in 1..24 {
            assert_eq!(
                Http2.claim(&PREFACE[..length]),
                Claim::Undecided,
                "{length}"
            );
        }
        assert_eq!(Http2.claim(b"PRI * HTTP/1"), Claim::NotMine);
        assert_eq!(Http2.claim(b"GET"), Claim::NotMine);
    }
}
