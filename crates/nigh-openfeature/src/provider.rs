//! The provider: one call per evaluation, or none where the answer is known.

use std::sync::Arc;

use nigh::{Channel, ChannelError};
use open_feature::provider::{
    FeatureProvider, ProviderMetadata, ProviderStatus, ResolutionDetails,
};
use open_feature::{EvaluationContext, EvaluationErrorCode, EvaluationResult, StructValue};
use prost_types::Struct;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use crate::convert::{self, Answer, Plain, Typed};
use crate::event::Events;
use crate::follow;
use crate::options::Options;
use crate::proto::service_client::ServiceClient;
use crate::proto::{
    ResolveBooleanRequest, ResolveBooleanResponse, ResolveFloatRequest, ResolveFloatResponse,
    ResolveIntRequest, ResolveIntResponse, ResolveObjectRequest, ResolveObjectResponse,
    ResolveStringRequest, ResolveStringResponse,
};
use crate::shared::{Shared, Standing};

/// Why there is no provider. A daemon that is not there is no reason: it may come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// There is no way to the daemon.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The selector cannot be sent: a header is one line of visible characters.
    #[error("no header can carry the selector {selector:?}")]
    Selector {
        /// The selector.
        selector: String,
    },
}

impl ProviderError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Channel(error) => error.hint(),
            Self::Selector { .. } => Some("say flagSetId=ID or source=ADDRESS".to_owned()),
        }
    }
}

/// An OpenFeature provider that asks a flag daemon.
///
/// It follows the daemon's events from [`initialize`](FeatureProvider::initialize) on, which `set_provider` calls, until
/// it is dropped. Needs a tokio runtime.
#[derive(Debug)]
pub struct Provider {
    shared: Arc<Shared>,
    client: ServiceClient<Channel>,
    metadata: ProviderMetadata,
    follower: JoinSet<()>,
}

impl Provider {
    /// A provider with these options. It connects when it is initialized, or with the first evaluation.
    ///
    /// # Errors
    /// Only what can be known without connecting.
    pub fn new(options: Options) -> Result<Self, ProviderError> {
        let mut probe = Request::new(());
        if follow::select_flags(&options.selector, &mut probe).is_err() {
            let selector = options.selector;
            return Err(ProviderError::Selector { selector });
        }
        let channel = options.channel.clone().lazy(options.address.clone())?;
        Ok(Self {
            shared: Arc::new(Shared::new(options)),
            client: ServiceClient::new(channel),
            metadata: ProviderMetadata::new("flagd"),
            follower: JoinSet::new(),
        })
    }

    /// Hears what happens from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events(self.shared.events.subscribe())
    }

    /// Asks the daemon, unless the answer is known.
    async fn resolve<T, Q, P, F>(
        &self,
        key: &str,
        context: &EvaluationContext,
        request: impl FnOnce(String, Option<Struct>) -> Q,
        call: F,
    ) -> EvaluationResult<ResolutionDetails<T>>
    where
        T: Typed,
        P: Into<Reply>,
        F: AsyncFnOnce(ServiceClient<Channel>, Request<Q>) -> Result<Response<P>, Status>,
    {
        let epoch = {
            let mut cache = self.shared.cache();
            let kept = cache.get(key);
            if let Some(details) = kept.and_then(|answer| convert::details(answer, true)) {
                return Ok(details);
            }
            cache.epoch()
        };
        let context = convert::context(context)?;
        let mut request = Request::new(request(key.to_owned(), Some(context)));
        request.set_timeout(self.shared.options.deadline);
        let was_ready = *self.shared.standing.borrow() != Standing::NotReady;
        let failed = |status: Status| convert::failure(&status, was_ready);
        follow::select_flags(&self.shared.options.selector, &mut request).map_err(failed)?;
        let answer = call(self.client.clone(), request).await.map_err(failed)?;
        let reply: Reply = answer.into_inner().into();
        let Some(value) = reply.value else {
            return Err(convert::no_value(key, &reply.reason));
        };
        let answer = Answer {
            value,
            variant: reply.variant,
            metadata: convert::metadata(reply.metadata.unwrap_or_default()),
            reason: reply.reason,
        };
        // The only answers that do not depend on who asks.
        if answer.reason == "STATIC"
            && let Some(epoch) = epoch
        {
            self.shared.cache().put(epoch, key, answer.clone());
        }
        convert::details(answer, false).ok_or_else(|| {
            let text = format!("flag {key:?} is of another type");
            convert::error(EvaluationErrorCode::TypeMismatch, text)
        })
    }
}

/// What all five answers say.
struct Reply {
    value: Option<Plain>,
    reason: String,
    variant: Option<String>,
    metadata: Option<Struct>,
}

macro_rules! reply {
    ($($response:ident $value:expr;)*) => { $(
        impl From<$response> for Reply {
            fn from(response: $response) -> Self {
                Self {
                    value: response.value.map($value),
                    reason: response.reason,
                    variant: response.variant.filter(|name| !name.is_empty()),
                    metadata: response.metadata,
                }
            }
        }
    )* };
}
reply! {
    ResolveBooleanResponse Plain::Bool;
    ResolveIntResponse Plain::Int;
    ResolveFloatResponse Plain::Float;
    ResolveStringResponse Plain::String;
    ResolveObjectResponse |value| Plain::Struct(convert::of_struct(value));
}

/// The five methods differ by their messages only.
macro_rules! resolve {
    ($provider:ident, $key:ident, $context:ident, $request:ident, $method:ident) => {
        $provider
            .resolve(
                $key,
                $context,
                |flag_key, context| $request { flag_key, context },
                async |mut client: ServiceClient<Channel>, request| client.$method(request).await,
            )
            .await
    };
}

#[async_trait::async_trait]
impl FeatureProvider for Provider {
    async fn initialize(&mut self, _: &EvaluationContext) {
        let mut standing = self.shared.standing.subscribe();
        if self.follower.is_empty() {
            let shared = Arc::clone(&self.shared);
            self.follower
                .spawn(follow::run(shared, self.client.clone()));
        }
        let settled = standing.wait_for(|standing| *standing != Standing::NotReady);
        let settled = tokio::time::timeout(self.shared.options.deadline, settled).await;
        if settled.is_err() {
            self.shared.give_up(Standing::NotReady);
        }
    }

    fn status(&self) -> ProviderStatus {
        match *self.shared.standing.borrow() {
            Standing::NotReady => ProviderStatus::NotReady,
            Standing::Ready => ProviderStatus::Ready,
            Standing::Stale => ProviderStatus::STALE,
            Standing::Error | Standing::Fatal => ProviderStatus::Error,
        }
    }

    fn metadata(&self) -> &ProviderMetadata {
        &self.metadata
    }

    async fn resolve_bool_value(
        &self,
        flag_key: &str,
        context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<bool>> {
        resolve!(
            self,
            flag_key,
            context,
            ResolveBooleanRequest,
            resolve_boolean
        )
    }

    async fn resolve_int_value(
        &self,
        flag_key: &str,
        context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<i64>> {
        resolve!(self, flag_key, context, ResolveIntRequest, resolve_int)
    }

    async fn resolve_float_value(
        &self,
        flag_key: &str,
        context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<f64>> {
        resolve!(self, flag_key, context, ResolveFloatRequest, resolve_float)
    }

    async fn resolve_string_value(
        &self,
        flag_key: &str,
        context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<String>> {
        resolve!(
            self,
            flag_key,
            context,
            ResolveStringRequest,
            resolve_string
        )
    }

    async fn resolve_struct_value(
        &self,
        flag_key: &str,
        context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<StructValue>> {
        resolve!(
            self,
            flag_key,
            context,
            ResolveObjectRequest,
            resolve_object
        )
    }
}
