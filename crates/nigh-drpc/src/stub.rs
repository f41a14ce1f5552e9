//! Typed services: a table of module, methods and prost messages becomes a server trait and a client.

use bytes::Bytes;
use prost::Message;

use crate::client::CallError;
use crate::server::{Failure, Request};

/// A call whose body is decoded.
#[derive(Debug)]
#[non_exhaustive]
pub struct Typed<T> {
    /// The method's argument.
    pub message: T,
    /// The call: its peer, descriptors, deadline.
    pub request: Request,
}

impl<T: Message + Default> Typed<T> {
    /// Decodes the body.
    ///
    /// # Errors
    /// Status FAILED_UNMARSHAL_PAYLOAD.
    pub fn decode(request: Request) -> Result<Self, Failure> {
        let message = T::decode(request.body.clone())?;
        Ok(Self { message, request })
    }
}

/// The message's bytes.
#[doc(hidden)]
pub fn encode<T: Message>(message: &T) -> Bytes {
    message.encode_to_vec().into()
}

/// The answer's message.
#[doc(hidden)]
pub fn decode<T: Message + Default>(body: Bytes) -> Result<T, CallError> {
    T::decode(body).map_err(CallError::Decode)
}

/// Makes a server trait and clients from a table of methods, with prost messages as arguments and answers.
///
/// ```
/// #[derive(Clone, PartialEq, prost::Message)]
/// pub struct Hello { #[prost(string, tag = "1")] name: String }
/// #[derive(Clone, PartialEq, prost::Message)]
/// pub struct HelloResponse { #[prost(string, tag = "1")] greeting: String }
///
/// nigh_drpc::service! {
///     /// Greets.
///     pub trait Greeter, client GreeterClient, blocking BlockingGreeter, module 0 "TEST" {
///         /// Says hello.
///         greeting = 0 (Hello) -> HelloResponse;
///     }
/// }
///
/// struct Polite;
/// impl Greeter for Polite {
///     async fn greeting(
///         &self,
///         call: nigh_drpc::Typed<Hello>,
///     ) -> Result<HelloResponse, nigh_drpc::Failure> {
///         Ok(HelloResponse { greeting: format!("Hello {}", call.message.name) })
///     }
/// }
///
/// let mut modules = nigh_drpc::Modules::new();
/// modules.register(Polite.into_module()).unwrap();
/// ```
#[macro_export]
macro_rules! service {
    (
        $(#[$doc:meta])*
        $vis:vis trait $server:ident, client $client:ident, blocking $blocking:ident, module $id:literal $name:literal {
            $($(#[$method_doc:meta])* $method:ident = $number:literal ($argument:ty) -> $answer:ty;)*
        }
    ) => {
        $(#[$doc])*
        $vis trait $server: Send + Sync + Sized + 'static {
            $(
                $(#[$method_doc])*
                fn $method(
                    &self,
                    call: $crate::Typed<$argument>,
                ) -> impl ::core::future::Future<Output = Result<$answer, $crate::Failure>> + Send;
            )*

            /// The module, to be registered with a server.
            fn into_module(self) -> $crate::Module {
                let service = ::std::sync::Arc::new(self);
                let module = $crate::Module::new($id, $name);
                $(
                    let module = {
                        let service = ::std::sync::Arc::clone(&service);
                        module.method($number, stringify!($method), move |request| {
                            let service = ::std::sync::Arc::clone(&service);
                            async move {
                                let call = $crate::Typed::<$argument>::decode(request)?;
                                let answer: $answer = service.$method(call).await?;
                                Ok($crate::stub::encode(&answer))
                            }
                        })
                    };
                )*
                module
            }
        }

        $(#[$doc])*
        #[derive(Debug, Clone)]
        $vis struct $client($crate::Client);

        impl $client {
            /// Calls over this client's connection.
            #[must_use]
            pub fn new(client: $crate::Client) -> Self {
                Self(client)
            }

            $(
                $(#[$method_doc])*
                ///
                /// # Errors
                /// See `CallError`.
                pub async fn $method(&self, argument: &$argument) -> Result<$answer, $crate::CallError> {
                    let body = $crate::stub::encode(argument);
                    $crate::stub::decode(self.0.call($id, $number, body).await?)
                }
            )*
        }

        $(#[$doc])*
        #[derive(Debug)]
        $vis struct $blocking($crate::BlockingClient);

        impl $blocking {
            /// Calls over this client's connection.
            #[must_use]
            pub fn new(client: $crate::BlockingClient) -> Self {
                Self(client)
            }

            $(
                $(#[$method_doc])*
                ///
                /// # Errors
                /// See `CallError`.
                pub fn $method(&mut self, argument: &$argument) -> Result<$answer, $crate::CallError> {
                    let body = $crate::stub::encode(argument);
                    $crate::stub::decode(self.0.call($id, $number, body)?)
                }
            )*
        }
    };
}
