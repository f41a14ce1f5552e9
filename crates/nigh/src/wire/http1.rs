//! The HTTP/1.1 wire, for curl and for services that answer plain HTTP beside gRPC (RFC 9112).

use http::{HeaderValue, Request, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tonic::body::Body;

use super::{Claim, Served, Session, Wire};
use crate::io::Io;

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
        Box::pin(async move {
            let limits = &session.limits.http1;
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .max_buf_size(limits.buffer_bytes_max)
                .header_read_timeout(limits.head_time);
            let calls = session.calls.clone();
            let service = hyper::service::service_fn(move |request: Request<_>| {
                let answer = calls.call(request.map(Body::new));
                let calls = calls.clone();
                async move {
                    let mut answer = answer.await;
                    if calls.is_draining() {
                        let close = HeaderValue::from_static("close");
                        answer.headers_mut().insert(header::CONNECTION, close);
                    }
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let connection = builder.serve_connection(TokioIo::new(io), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = session.ending() => {}
            }
            // Closed while it is idle, a call that is on its way would be lost: its answer says "close" instead.
            if session.is_replaced() {
                tokio::select! {
                    ended = connection.as_mut() => return Ok(ended?),
                    () = session.stopped() => {}
                }
            }
            connection.as_mut().graceful_shutdown();
            Ok(connection.await?)
        })
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
