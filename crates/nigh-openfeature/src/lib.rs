//! An OpenFeature provider for flagd and nigh-flagd, over a Unix socket or TCP.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use nigh_openfeature::{Event, Options, Provider};
//! use open_feature::{EvaluationContext, OpenFeature};
//!
//! let provider = Provider::new(Options::at("unix:/run/flagd/flagd.sock")?)?;
//! let mut events = provider.events();
//! let mut api = OpenFeature::singleton_mut().await;
//! api.set_provider(provider).await;
//! let client = api.create_client();
//! let context = EvaluationContext::default().with_targeting_key("user-1");
//! let new_look = client.get_bool_value("new-look", Some(&context), None).await.unwrap_or(false);
//! if let Some(Event::ConfigurationChanged { flags }) = events.next().await {
//!     println!("{flags:?} changed, new-look was {new_look}");
//! }
//! # Ok(()) }
//! ```
//! Values of flags without targeting are kept, and dropped as soon as the daemon says that they changed. When the
//! daemon is gone the provider is stale, after a while in error, and ready again as soon as the daemon is.

mod cache;
mod convert;
mod event;
mod follow;
mod options;
mod provider;
mod shared;

/// Messages and the client of flagd.evaluation.v2, as generated.
mod proto {
    #![expect(unused_qualifications, unreachable_pub, reason = "generated code")]
    tonic::include_proto!("flagd.evaluation.v2");
}

pub use event::{Event, Events};
pub use options::{Options, OptionsError};
pub use provider::{Provider, ProviderError};
