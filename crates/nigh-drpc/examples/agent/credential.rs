//! The credential that DAOS's security agent gives out, from facts about the caller (module 1, method 101).

#[path = "messages.rs"]
mod messages;

pub(crate) use messages::{Credential, GetCredReq, GetCredResp, Sys, Token};
use nigh_socket::{LocalPeer, group_name, user_name};
use prost::Message as _;
use sha2::{Digest as _, Sha512};

/// AUTH_SYS: a claim of user and groups.
const FLAVOR_SYS: i32 = 1;

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
