//! The messages of the security agent's credential call, by DAOS's field numbers.

use prost::Message;

/// The request has no fields.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetCredReq {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetCredResp {
    /// 0, or an error code of DAOS.
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) credential: Option<Credential>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Credential {
    #[prost(message, optional, tag = "1")]
    pub(crate) token: Option<Token>,
    #[prost(message, optional, tag = "2")]
    pub(crate) verifier: Option<Token>,
    #[prost(string, tag = "3")]
    pub(crate) origin: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Token {
    #[prost(int32, tag = "1")]
    pub(crate) flavor: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sys {
    #[prost(uint64, tag = "1")]
    pub(crate) stamp: u64,
    #[prost(string, tag = "2")]
    pub(crate) machine: String,
    #[prost(string, tag = "3")]
    pub(crate) user: String,
    #[prost(string, tag = "4")]
    pub(crate) group: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) groups: Vec<String>,
    #[prost(string, tag = "6")]
    pub(crate) label: String,
}
