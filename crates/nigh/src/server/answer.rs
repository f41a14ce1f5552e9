//! Answers that the server gives itself, each in the caller's own protocol.
//!
//! A gRPC caller gets a trailers-only status; anybody else an HTTP status with one line of text.

use http::{HeaderValue, Request, Response, StatusCode, header};
use tonic::body::Body;
use tonic::{Code, Status};

/// Which protocol a request was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Grpc,
    Http,
}

impl Dialect {
    /// gRPC is what says `application/grpc`, with or without a message format; gRPC-Web is not.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .map(HeaderValue::as_bytes);
        match kind.and_then(|kind| kind.strip_prefix(b"application/grpc")) {
            Some([] | [b'+' | b';', ..]) => Self::Grpc,
            _ => Self::Http,
        }
    }

    /// `status`, as this dialect says it.
    pub(crate) fn answer(self, status: &Status) -> Response<Body> {
        match self {
            Self::Grpc => status.clone().into_http(),
            Self::Http => plain(http_status(status.code()), status.message()),
        }
    }
}

/// Why a call does not reach a handler.
#[derive(Debug)]
pub(crate) enum Turned {
    /// The caller is told in its own dialect.
    Status(Status),
    /// As a status, and the caller may make the call again, elsewhere: nobody here looks at it.
    Unseen(Status),
    /// A gRPC service was asked in something else ("PROTOCOL-HTTP2" of gRPC: 415).
    NotGrpc,
    /// gRPC over HTTP/1.1, which has no trailers that clients read: 505, for the caller must come
    /// again by HTTP/2 and not, as 426 would say, upgrade this connection.
    NotHttp2,
}

impl From<Status> for Turned {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Turned {
    pub(crate) fn is_unseen(&self) -> bool {
        matches!(self, Self::Unseen(_))
    }

    pub(crate) fn answer(&self, dialect: Dialect) -> Response<Body> {
        match self {
            Self::Status(status) | Self::Unseen(status) => dialect.answer(status),
            Self::NotGrpc => plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this is a gRPC service: it takes content-type application/grpc",
            ),
            Self::NotHttp2 => plain(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "this is a gRPC service: it is called over HTTP/2",
            ),
        }
    }
}

fn plain(code: StatusCode, text: &str) -> Response<Body> {
    let body = http_body_util::Full::from(format!("{text}\n"));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The nearest HTTP status, as `google.rpc.Code` documents the mapping.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(content_type: &str) -> Dialect {
        let request = Request::builder()
            .header("content-type", content_type)
            .body(())
            .unwrap();
        Dialect::of(&request)
    }

    #[test]
    fn grpc_web_and_look_alikes_are_http() {
        assert_eq!(dialect("application/grpc"), Dialect::Grpc);
        assert_eq!(dialect("application/grpc+proto"), Dialect::Grpc);
        assert_eq!(dialect("application/grpc;x=y"), Dialect::Grpc);
        assert_eq!(dialect("application/grpc-web+proto"), Dialect::Http);
        assert_eq!(dialect("application/grpcx"), Dialect::Http);
        assert_eq!(dialect("application/json"), Dialect::Http);
        assert_eq!(Dialect::of(&Request::new(())), Dialect::Http);
    }

    #[test]
    fn each_dialect_is_told_in_its_own_words() {
        let status = Status::permission_denied("no");
        let grpc = Dialect::Grpc.answer(&status);
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(grpc.headers()["grpc-status"], "7");
        let http = Dialect::Http.answer(&status);
        assert_eq!(http.status(), StatusCode::FORBIDDEN);
        assert!(!http.headers().contains_key("grpc-status"));
    }
}
