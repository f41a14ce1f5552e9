//! The RPC services: gRPC, gRPC-Web and Connect, protobuf and JSON, all through one dispatcher.
//!
//! `connectrpc` does the protocols (it passes the Connect conformance suite); this file knows which method is
//! which and what its bytes mean.

use bytes::Bytes;
use connectrpc::dispatcher::{
    RequestStream, StreamingResult, UnaryResult, unimplemented_streaming, unimplemented_unary,
};
use connectrpc::{
    CodecFormat, ConnectError, ConnectRpcBody, ConnectRpcService, Dispatcher, EncodedBody,
    EncodedStream, ErrorCode, Limits, MethodDescriptor, Payload, RequestContext, Response,
};
use tonic::body::Body;

use super::codec::{self, Version};
use super::resolve::{Caller, CallerError, Evaluation, Kind, reflected};
use super::{Flagd, events, sync};
use crate::eval::EvalError;
use crate::store::BadSelector;

/// A method that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Resolve(Version, Kind),
    ResolveAll,
    Events,
    Sync,
    Fetch,
    Metadata,
}

impl Method {
    fn of(path: &str) -> Option<Self> {
        let (service, method) = path.trim_start_matches('/').split_once('/')?;
        let version = match service {
            "flagd.evaluation.v1.Service" => Version::V1,
            "flagd.evaluation.v2.Service" => Version::V2,
            "flagd.sync.v1.FlagSyncService" => {
                return Some(match method {
                    "SyncFlags" => Self::Sync,
                    "FetchAllFlags" => Self::Fetch,
                    "GetMetadata" => Self::Metadata,
                    _ => return None,
                });
            }
            _ => return None,
        };
        Some(match method {
            "ResolveBoolean" => Self::Resolve(version, Kind::Boolean),
            "ResolveString" => Self::Resolve(version, Kind::String),
            "ResolveFloat" => Self::Resolve(version, Kind::Float),
            "ResolveInt" => Self::Resolve(version, Kind::Integer),
            "ResolveObject" => Self::Resolve(version, Kind::Object),
            "ResolveAll" if version == Version::V1 => Self::ResolveAll,
            "EventStream" => Self::Events,
            _ => return None,
        })
    }

    fn is_stream(self) -> bool {
        matches!(self, Self::Events | Self::Sync)
    }
}

/// Answers the methods.
#[derive(Debug)]
pub(super) struct Methods {
    flagd: Flagd,
}

impl Dispatcher for Methods {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        let method = Method::of(path)?;
        Some(if method.is_stream() {
            MethodDescriptor::server_streaming()
        } else {
            MethodDescriptor::unary(false)
        })
    }

    fn call_unary(
        &self,
        path: &str,
        context: RequestContext,
        request: Payload,
        format: CodecFormat,
    ) -> UnaryResult {
        let answer = match Method::of(path) {
            Some(method) => self.answer(method, &context, &request, format),
            None => return unimplemented_unary(path),
        };
        let response = answer.map(|bytes| Response::new(EncodedBody::from(bytes)));
        Box::pin(std::future::ready(response))
    }

    fn call_server_streaming(
        &self,
        path: &str,
        context: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        let stream = match Method::of(path) {
            Some(Method::Events) => self.events(&context, format),
            Some(Method::Sync) => self.sync(&context, request, format),
            _ => return unimplemented_streaming(path),
        };
        Box::pin(std::future::ready(stream.map(Response::new)))
    }

    fn call_client_streaming(
        &self,
        path: &str,
        _: RequestContext,
        _: RequestStream,
        _: CodecFormat,
    ) -> UnaryResult {
        unimplemented_unary(path)
    }

    fn call_bidi_streaming(
        &self,
        path: &str,
        _: RequestContext,
        _: RequestStream,
        _: CodecFormat,
    ) -> StreamingResult {
        unimplemented_streaming(path)
    }
}

impl Methods {
    fn answer(
        &self,
        method: Method,
        context: &RequestContext,
        request: &Payload,
        format: CodecFormat,
    ) -> Result<Bytes, ConnectError> {
        let flagd = &self.flagd;
        let bytes = request.encoded()?;
        let caller = Caller::of(flagd, context.headers(), context.extensions()).map_err(refused)?;
        let view = flagd.inner.hub.store.view();
        match method {
            Method::Resolve(version, kind) => {
                let request = codec::resolve_request(bytes, format)?;
                let evaluation = Evaluation {
                    flagd,
                    view: &view,
                    caller: &caller,
                    attributes: request.attributes(),
                };
                let answer = evaluation
                    .resolve(&request.key, kind)
                    .map_err(|error| status(&error))?;
                // v1 cannot say "use the default in your code", except of a disabled flag.
                if version == Version::V1 && answer.variant.is_none() && answer.reason == "DEFAULT"
                {
                    return Err(status(&EvalError::NotFound));
                }
                Ok(codec::resolve_response(version, kind, answer, format))
            }
            Method::ResolveAll => {
                let carried = codec::resolve_all_request(bytes, format)?;
                let evaluation = Evaluation {
                    flagd,
                    view: &view,
                    caller: &caller,
                    attributes: carried.attributes(),
                };
                let metadata = reflected(&caller.selector);
                let answers = evaluation.resolve_all();
                Ok(codec::resolve_all_response(answers, metadata, format))
            }
            Method::Fetch => sync::fetch(flagd, &caller, bytes, format),
            Method::Metadata => sync::metadata(flagd, format),
            Method::Events | Method::Sync => Err(ConnectError::internal("a stream is no call")),
        }
    }

    fn events(
        &self,
        context: &RequestContext,
        format: CodecFormat,
    ) -> Result<EncodedStream, ConnectError> {
        let caller =
            Caller::of(&self.flagd, context.headers(), context.extensions()).map_err(refused)?;
        Ok(events::stream(&self.flagd, caller.selector, format))
    }

    fn sync(
        &self,
        context: &RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> Result<EncodedStream, ConnectError> {
        let caller =
            Caller::of(&self.flagd, context.headers(), context.extensions()).map_err(refused)?;
        sync::stream(&self.flagd, caller, request, format)
    }
}

pub(super) fn bad_selector(error: BadSelector) -> ConnectError {
    ConnectError::invalid_argument(error.to_string())
}

fn refused(error: CallerError) -> ConnectError {
    match error {
        CallerError::Selector(bad) => bad_selector(bad),
        CallerError::NotPinned => ConnectError::permission_denied(error.to_string()),
    }
}

/// The status that flagd's clients know this failure by.
fn status(error: &EvalError) -> ConnectError {
    let code = match error {
        EvalError::NotFound => ErrorCode::NotFound,
        EvalError::TypeMismatch => ErrorCode::InvalidArgument,
        EvalError::Parse(_) => ErrorCode::DataLoss,
        EvalError::NoVariant { .. } => ErrorCode::Unknown,
    };
    ConnectError::new(code, error.to_string())
}

/// Whether `path` is a method's, or would be if it existed.
pub(super) fn is_rpc(path: &str) -> bool {
    ["/flagd.evaluation.", "/flagd.sync."]
        .iter()
        .any(|package| path.starts_with(package))
}

pub(super) fn service(flagd: &Flagd) -> Rpc {
    let max = flagd.inner.options.request_bytes_max;
    let limits = Limits::default()
        .with_max_request_body_size(max)
        .with_max_message_size(max);
    let methods = Methods {
        flagd: flagd.clone(),
    };
    Rpc(ConnectRpcService::new(methods).with_limits(limits))
}

/// All methods, in every protocol. What is none of theirs by its content type is refused, so that a form of
/// a web page reaches nothing.
#[derive(Clone)]
pub(super) struct Rpc(ConnectRpcService<Methods>);

impl std::fmt::Debug for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rpc").finish_non_exhaustive()
    }
}

impl Rpc {
    pub(super) async fn call(&mut self, request: ::http::Request<Body>) -> ::http::Response<Body> {
        match tower::Service::call(&mut self.0, request).await {
            Ok(response) => response.map(|body: ConnectRpcBody| Body::new(body)),
            Err(never) => match never {},
        }
    }
}
