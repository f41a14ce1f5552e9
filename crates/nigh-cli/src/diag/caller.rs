//! What a handler can say of its caller: the one place that turns the server's view of a peer into the reply of `WhoAmI`.

use tonic::Extensions;

use super::pb::WhoAmIReply;
use super::pb::who_am_i_reply::Kind;

/// Describes the caller of a request by what the server put into its extensions.
pub(crate) fn describe(_extensions: &Extensions) -> WhoAmIReply {
    let mut reply = WhoAmIReply::default();
    reply.set_kind(Kind::Unspecified);
    reply
}
