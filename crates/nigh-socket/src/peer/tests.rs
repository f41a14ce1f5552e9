//! What the kernel's raw answers become, and made-up peers for the tests of policies.

use rustix::io::Errno;

use super::{LocalPeer, Overflow, Peer};
use crate::fact::{Fact, Source, Why};
use crate::sys::opt::Credentials;

const OVERFLOW: Overflow = Overflow {
    uid: 65534,
    gid: 65533,
};

/// A peer as the kernel would describe it, for tests of what is decided about it. `None`: the kernel does not tell.
pub(crate) fn made_up(
    uid: u32,
    gid: u32,
    groups: Option<Vec<u32>>,
    label: Option<&str>,
) -> LocalPeer {
    let pid = 4242;
    LocalPeer::from_answers(
        Credentials { pid, uid, gid },
        groups.ok_or(Errno::NODATA),
        Err(Errno::NOPROTOOPT),
        label
            .map(|label| label.as_bytes().to_vec())
            .ok_or(Errno::NOPROTOOPT),
        OVERFLOW,
    )
}

fn of_cred(pid: i32, uid: u32, gid: u32) -> LocalPeer {
    LocalPeer::from_answers(
        Credentials { pid, uid, gid },
        Err(Errno::NODATA),
        Err(Errno::SRCH),
        Err(Errno::NOPROTOOPT),
        OVERFLOW,
    )
}

const NOT_GIVEN: Fact<u32> = Fact::unknown(Source::PeerCred, Why::NotGiven);

#[test]
fn what_stands_for_nobody_is_unknown() {
    let peer = of_cred(0, u32::MAX, u32::MAX);
    assert_eq!(
        [peer.uid(), peer.gid(), peer.pid()],
        [&NOT_GIVEN, &NOT_GIVEN, &NOT_GIVEN]
    );
    let peer = of_cred(-1, 65534, 65533);
    assert_eq!(
        [peer.uid(), peer.gid(), peer.pid()],
        [&NOT_GIVEN, &NOT_GIVEN, &NOT_GIVEN]
    );
    // Each kind of id has its own overflow value.
    let peer = of_cred(1, 65533, 65534);
    let known = |value| Fact::known(value, Source::PeerCred);
    assert_eq!(
        [peer.uid(), peer.gid(), peer.pid()],
        [&known(65533), &known(65534), &known(1)]
    );
}

#[test]
fn unanswered_questions_keep_their_reason() {
    let peer = of_cred(1, 0, 0);
    assert_eq!(
        peer.groups(),
        &Fact::unknown(Source::PeerGroups, Why::NotGiven)
    );
    assert_eq!(
        peer.label(),
        &Fact::unknown(Source::PeerSec, Why::Unsupported)
    );
    assert!(matches!(
        peer.process(),
        Fact::Unknown {
            source: Source::PeerPidfd,
            why: Why::Gone
        }
    ));
}

#[test]
fn groups_without_an_id_here_are_dropped_and_counted() {
    let peer = made_up(1, 1, Some(vec![4, 65533, 27, u32::MAX, 65533]), Some("x"));
    assert_eq!(peer.groups(), &Fact::known(vec![4, 27], Source::PeerGroups));
    assert_eq!(peer.unmapped_groups(), 3);
}

#[test]
fn labels_lose_their_nul_and_may_be_none() {
    let label = |text| made_up(1, 1, Some(vec![]), Some(text)).label().clone();
    let known = |text: &str| Fact::known(text.as_bytes().to_vec(), Source::PeerSec);
    assert_eq!(label("a:b:c\0"), known("a:b:c"));
    assert_eq!(label("app (enforce)"), known("app (enforce)"));
    assert_eq!(label("a\0b"), known("a\0b"));
    let none = Fact::unknown(Source::PeerSec, Why::NotGiven);
    assert_eq!((label(""), label("\0")), (none.clone(), none));
}

#[test]
fn every_peer_is_shown_in_one_line() {
    let local = Peer::from(made_up(0, 4_000_000_001, Some(vec![]), Some("x")));
    assert_eq!(local.to_string(), "uid 0 gid 4000000001 pid 4242");
    assert_eq!(
        local.with_names().to_string(),
        "uid 0 (root) gid 4000000001 pid 4242"
    );
    let nobody = Peer::from(of_cred(0, u32::MAX, 65533));
    assert_eq!(nobody.to_string(), "uid unknown gid unknown pid unknown");
    assert_eq!(nobody.with_names().to_string(), nobody.to_string());
    let address = "192.0.2.1:4242".parse().unwrap();
    let table = [
        (Peer::remote(address), "192.0.2.1:4242"),
        (
            Peer::tls(address, None),
            "TLS 192.0.2.1:4242 without certificate",
        ),
        (
            Peer::tls(address, Some(vec![1])),
            "TLS 192.0.2.1:4242 with certificate",
        ),
    ];
    for (peer, shown) in table {
        assert_eq!(peer.to_string(), shown);
        assert_eq!(peer.with_names().to_string(), shown);
        assert!(peer.as_local().is_none());
    }
    let Peer::Tls(tls) = Peer::tls(address, Some(vec![1, 2])) else {
        unreachable!()
    };
    assert_eq!(tls.certificate(), Some([1, 2].as_slice()));
}
