//! `nigh call`: any method of any gRPC server, with JSON in and out.
//!
//! Flow: [`schema`] finds the method, [`request`] turns JSON into messages, [`exchange`] makes the call, a [`Sink`] shows it.
//! Nothing here knows how the connection was made: a [`Caller`] is any tonic-compatible client service.

mod codec;
pub mod exchange;
pub mod fields;
pub mod metadata;
mod near;
pub mod reply;
pub mod request;
pub mod schema;
pub(crate) mod status;

pub use exchange::{Exchange, Outcome, ShowError, Sink};

use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

/// A client service that tonic's generated stubs would accept: a channel of nigh's, or tonic's own.
pub trait Caller:
    GrpcService<
        Body,
        ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        Error: Into<StdError>,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<T> Caller for T where
    T: GrpcService<
            Body,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
            Error: Into<StdError>,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// Waits until the service takes a request, and says in gRPC's terms why it does not.
async fn ready<T: Caller>(client: &mut tonic::client::Grpc<T>) -> Result<(), tonic::Status> {
    client
        .ready()
        .await
        .map_err(|error| tonic::Status::from_error(error.into()))
}
