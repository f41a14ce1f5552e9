//! Why a server did not start, or ended on its own.

use nigh_socket::FrontError;

/// Why a server did not start, or ended on its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Two services have the same gRPC name.
    #[error("serve: two services are called {name:?}")]
    DuplicateService {
        /// The gRPC service name.
        name: &'static str,
    },
    /// A guard names a service that is not served: a slip there would leave a method open.
    #[error("serve: the guard of {path:?} guards nothing: no such service is served here")]
    GuardsNothing {
        /// The guard's path.
        path: String,
    },
    /// Descriptors are to be received by a service that is not served.
    #[error("serve: {service:?} is to receive descriptors, and no such service is served here")]
    ReceivesNothing {
        /// The name as given.
        service: String,
    },
    /// A guard's path is not of the form that guards have.
    #[error("serve: the guard of {path:?} guards nothing: that is not a method's path")]
    GuardForm {
        /// The guard's path.
        path: String,
    },
    /// A guard names a method that its service does not have, by the descriptors given for reflection.
    #[error("serve: the guard of {path:?} guards nothing: the service has {}", methods.join(", "))]
    GuardsNoMethod {
        /// The guard's path.
        path: String,
        /// The methods that the service has.
        methods: Vec<String>,
    },
    /// A service that requires callers of this machine would be reachable from elsewhere.
    #[error("serve: {service:?} is for local callers only, and {listener} is not a Unix socket")]
    NotLocal {
        /// The gRPC service name.
        service: &'static str,
        /// The listener's address as published.
        listener: nigh_socket::Address,
    },
    /// The descriptors given for reflection cannot be read.
    #[error("serve: the descriptor set given for reflection is unusable")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The listeners could not be served.
    #[error(transparent)]
    Front(#[from] FrontError),
}

impl ServerError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::GuardsNothing { .. } | Self::GuardForm { .. } | Self::GuardsNoMethod { .. } => {
                Some("write the path as /package.Service/Method, or /package.Service/* for all")
            }
            Self::NotLocal { .. } => {
                Some("serve it from a Server of its own, or add it with service()")
            }
            Self::Reflection(_) => Some("pass the bytes that prost-build wrote as descriptor set"),
            _ => None,
        }
    }
}
