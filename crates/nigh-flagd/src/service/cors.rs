//! Cross-origin calls from browsers, where the operator allows their origins.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

use super::Flagd;

impl Flagd {
    /// The origin to allow, if the request names one that is allowed.
    pub(super) fn cors(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let allowed = &self.inner.options.cors_origins;
        let known = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
        allowed.iter().any(known).then(|| origin.clone())
    }

    /// The answer to a browser that asks before it calls.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let asks = request.method() == Method::OPTIONS
            && request
                .headers()
                .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let origin = self.cors(request.headers())?;
        let headers = response.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST"),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, \
                 X-Grpc-Web, X-User-Agent, Flagd-Selector, If-None-Match",
            ),
        );
        allow(&mut response, Some(origin));
        Some(response)
    }
}

/// Lets pages of `origin` read `response`.
pub(super) fn allow(response: &mut Response<Body>, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("ETag, Grpc-Status, Grpc-Message"),
    );
}
