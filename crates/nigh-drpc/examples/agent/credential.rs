//! The credential that DAOS's security agent gives out, from facts about the caller (module 1, method 101).

use nigh_socket::{LocalPeer, group_name, user_name};
use prost::Message;
use sha2::{Digest as _, Sha512};

/// AUTH_SYS: a claim of user and groups.
const FLAVOR_SYS: i32 = 1;

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

impl Sys {
    /// What the kernel says of the caller; `None` if it does not say who that is.
    pub(crate) fn of(peer: &LocalPeer, machine: &str) -> Option<Self> {
        let name = |found: Option<String>, id: u32| match found {
            Some(name) => format!("{name}@"),
            None => format!("{id}@"),
        };
        let user = |id: &u32| name(user_name(*id).ok().flatten(), *id);
        let group = |id: &u32| name(group_name(*id).ok().flatten(), *id);
        let label = peer.label().value();
        Some(Self {
            stamp: 0,
            machine: machine.to_owned(),
            user: user(peer.uid().value()?),
            group: group(peer.gid().value()?),
            groups: peer.groups().value()?.iter().map(group).collect(),
            label: String::from_utf8_lossy(label.map_or(&[], Vec::as_slice)).into_owned(),
        })
    }
}

/// The answer, verified by a hash alone as where `allow_insecure` is set; else the verifier is a signature.
pub(crate) fn credential(sys: &Sys) -> GetCredResp {
    let token = |data| Token {
        flavor: FLAVOR_SYS,
        data,
    };
    let claim = token(sys.encode_to_vec());
    let hash = Sha512::digest(claim.encode_to_vec()).to_vec();
    GetCredResp {
        status: 0,
        credential: Some(Credential {
            token: Some(claim),
            verifier: Some(token(hash)),
            origin: "agent".into(),
        }),
    }
}
