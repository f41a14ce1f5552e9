//! OFREP: OpenFeature's remote evaluation over plain HTTP, with ETag for the answers of all flags.
//!
//! Trap: some texts are flagd's and differ from those of the RPCs, and a type mismatch cannot happen here.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use serde_json::{Map, Value, json};
use tonic::body::Body;

use super::Flagd;
use super::codec::Carried;
use super::resolve::{Caller, CallerError, Evaluation, reflected};
use crate::eval::EvalError;
use crate::store::Served;

/// What follows is a flag's key; nothing, or a slash, for all flags.
pub(super) const PATH: &str = "/ofrep/v1/evaluate/flags";

/// Answers a POST to [`PATH`] and `rest`.
pub(super) async fn answer(flagd: &Flagd, rest: &str, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let key = match rest.strip_prefix('/') {
        None if !rest.is_empty() => return failure(StatusCode::NOT_FOUND, json!({})),
        None => String::new(),
        Some(key) => match decoded(key) {
            Some(key) => key,
            None => return general(None, "the flag's key is no UTF-8 text"),
        },
    };
    let context = match read(flagd, body).await {
        Ok(context) => context,
        Err(refusal) => return refusal,
    };
    let caller = match Caller::of(flagd, &head.headers, &head.extensions) {
        Ok(caller) => caller,
        Err(CallerError::Selector(bad)) => {
            return general(None, &format!("invalid selector: {bad}"));
        }
        Err(refused @ CallerError::NotPinned) => {
            let body = json!({"errorCode": "GENERAL", "errorDetails": refused.to_string()});
            return failure(StatusCode::FORBIDDEN, body);
        }
    };
    let view = flagd.inner.hub.store.view();
    let evaluation = Evaluation {
        flagd,
        view: &view,
        caller: &caller,
        attributes: context.attributes(),
    };
    if key.is_empty() {
        return all(&evaluation, &head.headers);
    }
    let answer = match view.find(&key, &caller.selector) {
        Some(served) => one(&evaluation, served),
        None => {
            flagd.inner.metrics.failed("FLAG_NOT_FOUND");
            Err(error_body(
                &key,
                &EvalError::NotFound,
                reflected(&caller.selector),
            ))
        }
    };
    match answer {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(body) if body["errorCode"] == "FLAG_NOT_FOUND" => failure(StatusCode::NOT_FOUND, body),
        Err(body) => failure(StatusCode::BAD_REQUEST, body),
    }
}

/// The request's context. No body at all is allowed, and a context that is no object is ignored.
async fn read(flagd: &Flagd, body: Body) -> Result<Carried, Response<Body>> {
    let max = flagd.inner.options.request_bytes_max;
    let bytes = match Limited::new(body, max).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let body = json!({"errorCode": "GENERAL", "errorDetails": "request body too large"});
            return Err(failure(StatusCode::PAYLOAD_TOO_LARGE, body));
        }
        Err(_) => return Err(general(None, "the request's body broke off")),
    };
    if bytes.is_empty() {
        return Ok(Carried::None);
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(&bytes) else {
        let body = json!({"errorCode": "INVALID_CONTEXT", "errorDetails": "Provider context is not valid"});
        return Err(failure(StatusCode::BAD_REQUEST, body));
    };
    Ok(match members.remove("context") {
        Some(Value::Object(context)) => Carried::Json(context),
        None | Some(Value::Null) => Carried::None,
        Some(_) => {
            tracing::warn!("a caller's context is no object; it is ignored");
            Carried::None
        }
    })
}

fn one(evaluation: &Evaluation<'_>, served: &Served) -> Result<Value, Value> {
    let key = &served.flag.key;
    let metadata = evaluation.metadata_json(served);
    let outcome = match evaluation.evaluate(served) {
        Ok(outcome) => outcome,
        Err(error) => return Err(error_body(key, &error, metadata)),
    };
    evaluation.count(served, &outcome);
    let mut body = Map::new();
    body.insert("key".into(), (**key).into());
    body.insert("reason".into(), outcome.reason.as_str().into());
    if let Some((name, variant)) = outcome.variant {
        body.insert("value".into(), variant.value.clone());
        body.insert("variant".into(), name.into());
    }
    body.insert("metadata".into(), Value::Object(metadata));
    Ok(Value::Object(body))
}

fn all(evaluation: &Evaluation<'_>, headers: &HeaderMap) -> Response<Body> {
    let selector = &evaluation.caller.selector;
    let flags = evaluation.view.select_keys(selector).into_iter();
    // One failed flag is no reason to keep the others back.
    let flags = flags.map(|served| one(evaluation, served).unwrap_or_else(|error| error));
    let body = json!({"flags": flags.collect::<Vec<_>>(), "metadata": reflected(selector)});
    let text = body.to_string();
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let same = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one == tag);
    let mut response = if same {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        bytes_response(StatusCode::OK, text.into())
    };
    // Hexadecimal digits in quotation marks are always a header's value.
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn error_body(key: &str, error: &EvalError, metadata: Map<String, Value>) -> Value {
    let (code, details) = match error {
        EvalError::NotFound => (error.code(), format!("flag `{key}` does not exist")),
        EvalError::Parse(_) => (error.code(), format!("error parsing the flag `{key}`")),
        EvalError::TypeMismatch | EvalError::NoVariant { .. } => {
            ("GENERAL", "error processing the flag for evaluation".into())
        }
    };
    json!({"key": key, "errorCode": code, "errorDetails": details, "metadata": metadata})
}

fn general(key: Option<&str>, details: &str) -> Response<Body> {
    let mut body = json!({"errorCode": "GENERAL", "errorDetails": details});
    if let Some(key) = key {
        body["key"] = key.into();
    }
    failure(StatusCode::BAD_REQUEST, body)
}

fn failure(status: StatusCode, body: Value) -> Response<Body> {
    json_response(status, &body)
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    bytes_response(status, body.to_string().into())
}

fn bytes_response(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Percent escapes of a path undone; `None` where that gives no text.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || (rest.next()? as char).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}
