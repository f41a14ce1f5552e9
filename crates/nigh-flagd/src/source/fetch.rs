//! One question to a web server: HTTP/1.1, with ETag, redirects, TLS, and bounds on time and size.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, LOCATION, USER_AGENT,
};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nigh::ClientTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::model::{Format, SOURCE_BYTES_MAX};

/// Longest time for one question with its answer, redirects included, as flagd has it.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Redirects that are followed, as Go's client does.
const REDIRECTS_MAX: usize = 10;

/// Why a web server gave no document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Nobody is reached there.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What answers cannot prove who it is, or speaks no TLS.
    #[error("{host} proves no identity")]
    Tls {
        /// Host and port.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What answers speaks no HTTP/1.1, or broke off.
    #[error("no whole answer came")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer within the time.
    #[error("no answer within {} s", TIME_MAX.as_secs())]
    TimedOut,
    /// Something else than a document.
    #[error("it is answered with {0}")]
    Status(StatusCode),
    /// A redirect to what is no place, to too many, or from TLS to none.
    #[error("a redirect leads {0}")]
    Redirect(&'static str),
    /// More than is read.
    #[error("it is larger than {SOURCE_BYTES_MAX} bytes")]
    TooLarge,
    /// It is no UTF-8 text.
    #[error("it is no UTF-8 text")]
    NotText,
}

/// What a server said.
#[derive(Debug)]
pub(super) enum Fetched {
    /// It is what it was.
    Same,
    /// A document.
    New {
        tag: Option<HeaderValue>,
        text: String,
        format: Format,
    },
}

/// What to ask for.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) uri: &'a Uri,
    pub(super) authorization: Option<&'a HeaderValue>,
    /// The tag of the document that is known.
    pub(super) tag: Option<&'a HeaderValue>,
    pub(super) tls: Option<&'a ClientTls>,
}

/// Asks once.
pub(super) async fn ask(question: Question<'_>) -> Result<Fetched, HttpError> {
    let followed = tokio::time::timeout(TIME_MAX, follow(question));
    followed.await.unwrap_or(Err(HttpError::TimedOut))
}

async fn follow(mut question: Question<'_>) -> Result<Fetched, HttpError> {
    let first = question.uri;
    let mut uri = first.clone();
    for _ in 0..=REDIRECTS_MAX {
        // Whoever we are sent to elsewhere has no business with our credentials.
        if uri.authority() != first.authority() {
            question.authorization = None;
        }
        let host = host(&uri)?;
        let stream = TcpStream::connect(&host).await;
        let stream = stream.map_err(|source| HttpError::Connect {
            host: host.clone(),
            source,
        })?;
        let answered = match question
            .tls
            .filter(|_| uri.scheme() == Some(&Scheme::HTTPS))
        {
            None => exchange(stream, &uri, &question).await?,
            Some(tls) => {
                let name = uri.host().unwrap_or_default();
                let name = name.trim_start_matches('[').trim_end_matches(']');
                let secured = tls.secure(name, "http/1.1", stream).await;
                let secured = secured.map_err(|source| HttpError::Tls { host, source })?;
                exchange(secured, &uri, &question).await?
            }
        };
        match answered {
            Answer::Is(fetched) => return Ok(fetched),
            Answer::IsAt(location) => uri = resolve(&uri, &location)?,
        }
    }
    Err(HttpError::Redirect("from one to the next without end"))
}

/// Host and port in the form that resolvers take.
fn host(uri: &Uri) -> Result<String, HttpError> {
    let usual = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let host = uri.host().ok_or(HttpError::Redirect("to no host"))?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(usual)))
}

enum Answer {
    Is(Fetched),
    IsAt(HeaderValue),
}

async fn exchange<S>(stream: S, uri: &Uri, question: &Question<'_>) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| HttpError::Broken(error.into());
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(broken)?;
    // The connection works until this set is dropped, at the end of the exchange.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = request(uri, question);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED && question.tag.is_some() {
        return Ok(Answer::Is(Fetched::Same));
    }
    if status.is_redirection()
        && let Some(location) = response.headers().get(LOCATION)
    {
        return Ok(Answer::IsAt(location.clone()));
    }
    if status != StatusCode::OK {
        return Err(HttpError::Status(status));
    }
    Ok(Answer::Is(read(response, uri).await?))
}

fn request(uri: &Uri, question: &Question<'_>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    let path = uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = path.into();
    let agent = concat!("nigh-flagd/", env!("CARGO_PKG_VERSION"));
    let host = uri.authority().map(|authority| authority.as_str());
    // An authority that was read from a URI is always a header's value.
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    let headers = [
        (HOST, host),
        (USER_AGENT, Some(HeaderValue::from_static(agent))),
        (
            ACCEPT,
            Some(HeaderValue::from_static(
                "application/json, application/yaml",
            )),
        ),
        (AUTHORIZATION, question.authorization.cloned()),
        (IF_NONE_MATCH, question.tag.cloned()),
    ];
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    *request.headers_mut() = HeaderMap::from_iter(headers);
    request
}

async fn read(response: Response<Incoming>, uri: &Uri) -> Result<Fetched, HttpError> {
    let (head, body) = response.into_parts();
    let bytes = match Limited::new(body, SOURCE_BYTES_MAX).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(HttpError::TooLarge),
        Err(error) => return Err(HttpError::Broken(error)),
    };
    let text = String::from_utf8(bytes.into()).map_err(|_| HttpError::NotText)?;
    Ok(Fetched::New {
        tag: head.headers.get(ETAG).cloned(),
        format: format(uri, &head.headers),
        text,
    })
}

/// By the name's extension, and without one by what the server says.
fn format(uri: &Uri, headers: &HeaderMap) -> Format {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    if name.contains('.') {
        return Format::of_name(name);
    }
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    match kind {
        Some(kind) if kind.to_ascii_lowercase().contains("yaml") => Format::Yaml,
        _ => Format::Json,
    }
}

/// Where a redirect from `uri` leads.
fn resolve(uri: &Uri, location: &HeaderValue) -> Result<Uri, HttpError> {
    let nowhere = || HttpError::Redirect("to no http(s) URL");
    let text = location.to_str().map_err(|_| nowhere())?;
    let text = text.split('#').next().unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let whole = if text.contains("://") {
        text.to_owned()
    } else if text.starts_with("//") {
        format!("{scheme}:{text}")
    } else if text.starts_with('/') {
        format!("{scheme}://{authority}{text}")
    } else {
        let path = uri.path();
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        format!("{scheme}://{authority}{folder}{text}")
    };
    let next: Uri = whole.parse().map_err(|_| nowhere())?;
    match (scheme, next.scheme_str()) {
        ("https", Some("http")) => Err(HttpError::Redirect("from TLS to a server without")),
        (_, Some("http" | "https")) if next.host().is_some() => Ok(next),
        _ => Err(nowhere()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_relative_to_where_it_comes_from() {
        let uri: Uri = "https://h:1/a/b?c".parse().unwrap();
        for (location, expected) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "https://x/y"),
            ("/y#z", "https://h:1/y"),
            ("y?z", "https://h:1/a/y?z"),
        ] {
            let next = resolve(&uri, &HeaderValue::from_static(location)).unwrap();
            assert_eq!(next.to_string(), expected, "{location}");
        }
        for location in ["http://h:1/", "ftp://x/", "https://", "http:// /"] {
            let next = resolve(&uri, &HeaderValue::from_static(location));
            assert!(next.is_err(), "{location}: {next:?}");
        }
    }

    #[test]
    fn the_form_is_told_by_the_name_or_the_server() {
        for (uri, kind, format) in [
            ("http://h/a.yaml", "application/json", Format::Yaml),
            ("http://h/a.json?x=.yaml", "text/yaml", Format::Json),
            (
                "http://h/a",
                "application/x-yaml; charset=utf-8",
                Format::Yaml,
            ),
            ("http://h.yaml", "text/plain", Format::Json),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(
                super::format(&uri.parse().unwrap(), &headers),
                format,
                "{uri}"
            );
        }
    }
}
