//! The HTTP/1.1 wire, for curl and for services that answer plain HTTP beside gRPC (RFC 9112).

mod quiet;

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tonic::body::Body;

use super::{Claim, Served, Session, Wire, WireError};
use crate::io::Io;
use quiet::Quiet;

/// RFC 9110 names none longer than `OPTIONS`; extensions such as `VERSION-CONTROL` have 15.
const METHOD_BYTES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Http1;

impl Wire for Http1 {
    fn name(&self) -> &'static str {
        super::HTTP1
    }

    fn claim(&self, first: &[u8]) -> Claim {
        // "PRI" is reserved for the HTTP/2 preface (RFC 9113 11.1).
        if first.starts_with(b"PRI") {
            return Claim::NotMine;
        }
        let method = first
            .iter()
            .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-');
        match (method.count(), first) {
            (length, _) if length > METHOD_BYTES_MAX => Claim::NotMine,
            (length, first) if length == first.len() => Claim::Undecided,
            (0, _) => Claim::NotMine,
            (length, first) if first.get(length) == Some(&b' ') => Claim::Mine,
            _ => Claim::NotMine,
        }
    }

    fn serve(&self, io: Io, session: Session) -> Served {
        Box::pin(serve(io, session))
    }
}

/// How long a replaced server waits for the next request of a caller that no successor takes: the answer says that the
/// connection ends, and nobody notices anything.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a connection stands that a drain has found between two requests.
#[derive(Default)]
struct Stay {
    /// No successor has taken it: when it is left, if nothing comes.
    until: Option<Instant>,
    /// What the caller sends fails from now on.
    is_shut: bool,
    /// The server stops.
    is_last: bool,
}

/// A connection that was taken out of hyper's hands between two requests.
struct Parted {
    io: Io,
    is_stopped: bool,
}

async fn serve(mut io: Io, mut session: Session) -> Result<(), WireError> {
    let quiet = Arc::new(Quiet::default());
    let mut stay = Stay::default();
    while let Some(parted) = turn(io, &session, &quiet, &stay).await? {
        io = parted.io;
        match stay.until {
            _ if parted.is_stopped => {
                // What has come is answered, and what comes from now on fails at the caller, for certain.
                stay.is_shut = io.shut();
                stay.is_last = true;
            }
            None if session.pass_on(io.socket()).await => return Ok(()),
            None => {
                session.renew_drain();
                let stays = session.calls.is_draining();
                stay.until = stays.then(|| Instant::now() + PATIENCE);
            }
            Some(until) => stay.is_shut = next_request(&io, until, &session).await?,
        }
    }
    Ok(())
}

/// Serves until the end, or until a drain finds the connection between two requests.
async fn turn(
    io: Io,
    session: &Session,
    quiet: &Arc<Quiet>,
    stay: &Stay,
) -> Result<Option<Parted>, WireError> {
    let is_plain = io.is_plain();
    let service = hyper::service::service_fn(|request: Request<_>| {
        let in_call = quiet.call();
        let answer = session.calls.call(request.map(Body::new));
        let calls = session.calls.clone();
        async move {
            let mut answer = answer.await;
            if calls.is_draining() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, std::convert::Infallible>(answer.map(|body| in_call.over(body)))
        }
    });
    let limits = &session.limits.http1;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .max_buf_size(limits.buffer_bytes_max)
        .header_read_timeout(limits.head_time)
        // The end is ours then, and the caller waits for its answer.
        .half_close(stay.is_shut);
    let watched = TokioIo::new(quiet.watch(io));
    let mut connection = builder.serve_connection(watched, service);
    if stay.is_shut {
        return Ok(connection.await.map(|()| None)?);
    }
    if stay.until.is_none() && !stay.is_last {
        tokio::select! {
            biased;
            ended = &mut connection => return Ok(ended.map(|()| None)?),
            () = session.ending() => {}
        }
    }
    let may_part = || is_plain && !stay.is_last && quiet.is_idle();
    let mut is_stopped = !session.is_replaced();
    if !is_stopped {
        let idle = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if may_part() => Poll::Ready(None),
            polled => polled.map(Some),
        });
        tokio::select! {
            biased;
            ended = idle => if let Some(ended) = ended {
                return Ok(ended.map(|()| None)?);
            },
            () = session.stopped() => is_stopped = true,
        }
    }
    if !may_part() {
        Pin::new(&mut connection).graceful_shutdown();
        return Ok(connection.await.map(|()| None)?);
    }
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner().into_io();
    if !parts.read_buf.is_empty() {
        io.unread(parts.read_buf);
    }
    Ok(Some(Parted { io, is_stopped }))
}

/// Waits for the next request of a caller that no successor has; leaves it when none comes. Says whether what it sends
/// fails from now on; over TCP nothing could be certain, and it stays until the server stops.
async fn next_request(io: &Io, until: Instant, session: &Session) -> Result<bool, WireError> {
    tokio::select! {
        biased;
        readable = io.readable() => return Ok(readable.map(|()| false)?),
        () = session.stopped() => return Ok(false),
        () = tokio::time::sleep_until(until) => {}
    }
    if io.shut() {
        return Ok(true);
    }
    tokio::select! {
        readable = io.readable() => Ok(readable.map(|()| false)?),
        () = session.stopped() => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_and_a_space_are_claimed() {
        assert_eq!(Http1.claim(b"GET /"), Claim::Mine);
        assert_eq!(Http1.claim(b"VERSION-CONTROL /"), Claim::Mine);
        assert_eq!(Http1.claim(b"GE"), Claim::Undecided);
        assert_eq!(Http1.claim(b"PRI * HTTP/2.0"), Claim::NotMine);
        assert_eq!(Http1.claim(b"get /"), Claim::NotMine);
        assert_eq!(Http1.claim(b" GET"), Claim::NotMine);
        assert_eq!(Http1.claim(&[0x16, 3, 1]), Claim::NotMine);
        assert_eq!(Http1.claim(&[b'A'; 17]), Claim::NotMine);
    }
}
