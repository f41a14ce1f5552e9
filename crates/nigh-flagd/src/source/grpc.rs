//! Follows one server of `flagd.sync.v1`, another nigh-flagd for example: by its stream, or where it has none by asking.

use std::time::Duration;

use nigh::Channel;
use tonic::{Code, Request, Status};

use super::address::Grpc;
use super::seat::Seat;
use super::{ReadError, StartError, authorities};
use crate::model::Format;
use crate::service::proto::sync::v1::flag_sync_service_client::FlagSyncServiceClient;
use crate::service::proto::sync::v1::{FetchAllFlagsRequest, SyncFlagsRequest};
use crate::store::HEADER;
use crate::value;

/// First wait after a stream ended; each that fails doubles it.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Longest time for an answer of all flags.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// Follows one server.
#[derive(Debug)]
pub(super) struct Follower {
    seat: Seat,
    source: Grpc,
    client: FlagSyncServiceClient<Channel>,
    wait: Duration,
}

impl Follower {
    pub(super) fn new(seat: Seat, source: &Grpc) -> Result<Self, StartError> {
        let mut options = Channel::options().wait(false);
        if source.tls {
            let tls = authorities(&source.name, source.certificate.as_deref())?;
            let is_local = !matches!(source.address, nigh::Address::Https { .. });
            options = if is_local {
                options.tls_on_unix(tls)
            } else {
                options.tls(tls)
            };
        }
        let channel = options.lazy(source.address.clone());
        let channel = channel.map_err(|error| StartError::Channel {
            name: source.name.clone(),
            source: Box::new(error),
        })?;
        let client = FlagSyncServiceClient::new(channel);
        Ok(Self {
            seat,
            client: client.max_decoding_message_size(source.message_bytes_max),
            source: source.clone(),
            wait: WAIT_MIN,
        })
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) {
        loop {
            match self.follow().await {
                Err(status) if status.code() == Code::Unimplemented => self.ask_for_ever().await,
                Err(status) => self.seat.take(Err(status.into())),
                Ok(()) => self.seat.take(Err(ReadError::Ended)),
            }
            tokio::time::sleep(self.wait).await;
            self.wait = (self.wait * 2).min(WAIT_MAX);
        }
    }

    /// One stream, to its end.
    async fn follow(&mut self) -> Result<(), Status> {
        let request = SyncFlagsRequest {
            provider_id: self.source.provider_id.clone(),
            selector: self.source.selector.clone(),
        };
        let request = self.request(request)?;
        let mut stream = self.client.sync_flags(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            self.wait = WAIT_MIN;
            let context = message.sync_context.as_ref();
            let context = context.map(value::to_members).unwrap_or_default();
            self.seat
                .offer_with(message.flag_configuration, context)
                .await;
        }
        Ok(())
    }

    /// For servers that have no stream; returns when one fails.
    async fn ask_for_ever(&mut self) {
        tracing::info!(
            "{}: it has no stream; it is asked every {:?}",
            self.seat.name,
            self.source.interval
        );
        loop {
            let request = FetchAllFlagsRequest {
                provider_id: self.source.provider_id.clone(),
                selector: self.source.selector.clone(),
            };
            let request = self.request(request).map(|mut request| {
                request.set_timeout(FETCH_MAX);
                request
            });
            let answer = match request {
                Ok(request) => self.client.fetch_all_flags(request).await,
                Err(status) => Err(status),
            };
            match answer {
                Ok(answer) => {
                    self.wait = WAIT_MIN;
                    let text = answer.into_inner().flag_configuration;
                    self.seat.offer(text, Format::Json).await;
                }
                Err(status) => return self.seat.take(Err(status.into())),
            }
            tokio::time::sleep(self.source.interval).await;
        }
    }

    /// The selector is in the header where it is understood, and in the message for older servers.
    fn request<M>(&self, message: M) -> Result<Request<M>, Status> {
        let mut request = Request::new(message);
        if !self.source.selector.is_empty() {
            let selector = self.source.selector.parse();
            let selector = selector
                .map_err(|_| Status::invalid_argument("no header can carry the selector"))?;
            request.metadata_mut().insert(HEADER, selector);
        }
        Ok(request)
    }
}
