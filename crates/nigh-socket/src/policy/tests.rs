//! The truth tables, the text form both ways, every refusal of it, and the line that explains a verdict.

use super::parse::{self, Names};
use super::{Expression, POLICY_BYTES_MAX, Policy, PolicyError, PolicyFault, Truth};
use crate::peer::Peer;
use crate::peer::tests::made_up;
use crate::users::UserError;

use Truth::{No, Unknown, Yes};

/// A machine with every name but one; a name's id is its length.
struct Everyone;

impl Names for Everyone {
    fn uid_of(&self, user: &str) -> Result<u32, UserError> {
        match user {
            "missing" => Err(UserError::NoSuchUser { name: user.into() }),
            _ => Ok(u32::try_from(user.len()).unwrap()),
        }
    }

    fn gid_of(&self, group: &str) -> Result<u32, UserError> {
        match group {
            "missing" => Err(UserError::NoSuchGroup { name: group.into() }),
            _ => Ok(100 + u32::try_from(group.len()).unwrap()),
        }
    }
}

pub(super) fn parsed(text: &str) -> Result<Policy, PolicyError> {
    parse::policy(text, &Everyone).map(Policy::from)
}

fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
    made_up(uid, gid, Some(groups.to_vec()), Some("app_t")).into()
}

/// uid, gid, groups and label all unknown: 65534 and 65533 are the overflow ids of made-up peers.
fn unknown_peer() -> Peer {
    made_up(65534, 65533, None, None).into()
}

fn truth(text: &str, peer: &Peer) -> Truth {
    parsed(text).unwrap().evaluate(peer).truth()
}

#[test]
fn kleene_tables() {
    let and = [
        (Yes, Yes, Yes),
        (Yes, No, No),
        (Yes, Unknown, Unknown),
        (No, No, No),
        (No, Unknown, No),
        (Unknown, Unknown, Unknown),
    ];
    for (a, b, result) in and {
        assert_eq!((a.and(b), b.and(a)), (result, result), "{a:?} and {b:?}");
        let dual = (!a).or(!b);
        assert_eq!((dual, (!b).or(!a)), (!result, !result), "{a:?} or {b:?}");
    }
    assert_eq!((!Yes, !No, !Unknown), (No, Yes, Unknown));
}

#[test]
fn terms_look_at_their_fact() {
    let alice = peer(5, 105, &[4, 27]);
    let table = [
        ("any", Yes),
        ("none", No),
        ("user:5", Yes),
        ("user:alice", Yes),
        ("user:0", No),
        ("user:bob", No),
        ("group:105", Yes),
        ("group:hosts", Yes),
        ("group:27", Yes),
        ("group:28", No),
        ("label:app_t", Yes),
        ("label:app", No),
        ("label:\"\"", No),
        ("user:105", No),
        ("group:5", No),
        ("not user:5", No),
        ("not user:6", Yes),
    ];
    for (text, expected) in table {
        assert_eq!(truth(text, &alice), expected, "{text}");
    }
}

#[test]
fn an_unknown_fact_makes_its_term_unknown() {
    let stranger = unknown_peer();
    let table = [
        ("any", Yes),
        ("not any", No),
        ("none", No),
        ("user:5", Unknown),
        ("user:65534", Unknown),
        ("not user:5", Unknown),
        ("group:5", Unknown),
        ("not group:65533", Unknown),
        ("label:x", Unknown),
        ("not label:x", Unknown),
        ("user:5 and none", No),
        ("user:5 or any", Yes),
        ("user:5 and any", Unknown),
        ("user:5 or none", Unknown),
        ("user:5 or not user:5", Unknown),
        ("not (user:5 and group:5)", Unknown),
    ];
    for (text, expected) in table {
        assert_eq!(truth(text, &stranger), expected, "{text}");
    }
    assert!(!Policy::same_user().evaluate(&stranger).admits());
    assert!(!(!Policy::same_user()).evaluate(&stranger).admits());
}

#[test]
fn a_group_is_a_no_only_if_all_groups_are_known() {
    let gid_only = Peer::from(made_up(1, 7, None, Some("x")));
    let groups_only = Peer::from(made_up(1, 65533, Some(vec![7]), Some("x")));
    let unmapped = Peer::from(made_up(1, 7, Some(vec![8, 65533]), Some("x")));
    let table = [
        (&gid_only, "group:7", Yes),
        (&gid_only, "group:8", Unknown),
        (&gid_only, "not group:8", Unknown),
        (&groups_only, "group:7", Yes),
        (&groups_only, "group:8", Unknown),
        (&unmapped, "group:7", Yes),
        (&unmapped, "group:8", Yes),
        (&unmapped, "group:9", Unknown),
        (&unmapped, "not group:65533", Unknown),
    ];
    for (peer, text, expected) in table {
        assert_eq!(truth(text, peer), expected, "{text} {peer}");
    }
}

#[test]
fn over_tcp_and_tls_only_any_admits() {
    let address = "192.0.2.1:4242".parse().unwrap();
    for peer in [
        Peer::remote(address),
        Peer::tls(address, None),
        Peer::tls(address, Some(vec![1])),
    ] {
        assert_eq!(truth("any", &peer), Yes);
        assert_eq!(truth("not any", &peer), No);
        for text in [
            "same-user",
            "user:0",
            "group:0",
            "label:x",
            "none",
            "not none",
            "not user:0",
            "not (none or user:0)",
        ] {
            assert_eq!(truth(text, &peer), Unknown, "{text}");
        }
    }
}

#[test]
fn root_is_nobody_special() {
    let root = peer(0, 0, &[]);
    assert!(
        !parsed("user:1 or group:1")
            .unwrap()
            .evaluate(&root)
            .admits()
    );
    assert!(parsed("user:0").unwrap().evaluate(&root).admits());
}

#[test]
fn same_user_is_our_effective_uid_at_load() {
    let uid = crate::users::effective_uid();
    let us = peer(uid, 1, &[]);
    assert!(Policy::same_user().evaluate(&us).admits());
    assert_eq!(truth("same-user", &us), Yes);
    assert_eq!(truth("same-user", &peer(uid + 1, 1, &[])), No);
}

#[test]
fn the_text_form_both_ways() {
    let same = [
        "any",
        "none",
        "same-user",
        "user:alice",
        "user:1000",
        "group:app",
        "label:system_u:system_r:app_t:s0:c1,c2",
        "label:\"app (enforce)\"",
        "label:\"\"",
        "label:\"a\\\\b\\\"c\"",
        "label:\"\\x00\\xff\\x0a\"",
        "user:\"größe 1\"",
        "not any",
        "not not any",
        "any or none and not any",
        "(any or none) and any",
        "not (any or none)",
        "not (any and none) or any",
        "user:and or user:or and user:not",
        "user:4294967295",
    ];
    for text in same {
        assert_eq!(parsed(text).unwrap().to_string(), text);
    }
    let canonical = [
        ("  any\t\n", "any"),
        ("((any))", "any"),
        ("(any or none) or any", "any or none or any"),
        ("any and (none and any)", "any and none and any"),
        ("(any and none) or any", "any and none or any"),
        ("not(any)", "not any"),
        ("(any)and(none)", "any and none"),
        ("user:'a b'", "user:\"a b\""),
        ("user:\"alice\"", "user:alice"),
        ("user:\"1000\"", "user:1000"),
        ("user:0007", "user:7"),
        ("label:'it\\'s'", "label:\"it's\""),
        (
            "label:\"\\n\\r\\t\\0\\x41\"",
            "label:\"\\x0a\\x0d\\x09\\x00A\"",
        ),
        ("label:ü", "label:\"ü\""),
    ];
    for (text, printed) in canonical {
        let policy = parsed(text).unwrap();
        assert_eq!(policy.to_string(), printed, "{text}");
        assert_eq!(parsed(printed), Ok(policy), "{printed}");
    }
}

#[test]
fn operators_bind_not_and_or() {
    let built = (!Policy::any()).and(Policy::none()).or(Policy::uid(1));
    assert_eq!(parsed("not any and none or user:1"), Ok(built));
    let built = Policy::any().or(Policy::none().and(!Policy::gid(1)));
    assert_eq!(parsed("any or none and not group:1"), Ok(built));
}

#[test]
fn every_refusal_is_named_and_located() {
    let unknown = |word: &str| PolicyFault::UnknownTerm { word: word.into() };
    let table = [
        ("", PolicyFault::Empty, 1),
        (" \n", PolicyFault::Empty, 1),
        ("root", unknown("root"), 1),
        ("any or uid:0", unknown("uid:"), 8),
        ("any:1", unknown("any:"), 1),
        (":x", unknown(":"), 1),
        ("ANY", unknown("ANY"), 1),
        ("anyor none", unknown("anyor"), 1),
        ("user", PolicyFault::NoValue { term: "user:" }, 5),
        ("user: x", PolicyFault::NoValue { term: "user:" }, 6),
        ("group:)", PolicyFault::NoValue { term: "group:" }, 7),
        ("label:", PolicyFault::NoValue { term: "label:" }, 7),
        ("and any", PolicyFault::NoTerm, 1),
        ("any and", PolicyFault::NoTerm, 8),
        ("any or or any", PolicyFault::NoTerm, 8),
        ("not", PolicyFault::NoTerm, 4),
        ("()", PolicyFault::NoTerm, 2),
        ("any any", PolicyFault::NoOperator, 5),
        ("any not any", PolicyFault::NoOperator, 5),
        ("(any any)", PolicyFault::NoOperator, 6),
        ("user:a\"b\"", PolicyFault::NoOperator, 7),
        ("any && any", PolicyFault::NoOperator, 5),
        ("any or (any", PolicyFault::UnclosedParenthesis, 8),
        ("any)", PolicyFault::UnopenedParenthesis, 4),
        ("label:\"a", PolicyFault::UnclosedQuote, 7),
        ("label:\"a'", PolicyFault::UnclosedQuote, 7),
        ("label:\"ä\\q\"", PolicyFault::BadEscape, 9),
        ("label:\"\\x4\"", PolicyFault::BadEscape, 8),
        ("label:\"\\", PolicyFault::BadEscape, 8),
        ("user:\"\\xff\"", PolicyFault::NameNotUtf8, 6),
    ];
    for (text, fault, column) in table {
        let error = parsed(text).unwrap_err();
        assert_eq!(
            (error.fault(), error.column()),
            (&fault, Some(column)),
            "{text}"
        );
        assert_eq!(error.text(), Some(text));
    }
}

#[test]
fn names_that_nobody_has_are_errors_at_load() {
    let error = "any and group:no-such-group".parse::<Policy>().unwrap_err();
    let name = "no-such-group".to_owned();
    assert_eq!(
        error.fault(),
        &PolicyFault::User(UserError::NoSuchGroup { name })
    );
    assert_eq!(
        error.to_string(),
        "policy \"any and group:no-such-group\": no such group \"no-such-group\" (character 15)"
    );
    assert!(error.hint().is_some());
    let error = Policy::user("no-such-user").unwrap_err();
    assert_eq!(error.to_string(), "no such user \"no-such-user\"");
    assert_eq!((error.text(), error.column()), (None, None));
    let text = "99999999999".to_owned();
    let out_of_range = PolicyFault::User(UserError::IdOutOfRange { text });
    assert_eq!(
        parsed("user:99999999999").unwrap_err().fault(),
        &out_of_range
    );
    assert_eq!(
        parsed("user:missing").unwrap_err().column(),
        Some("user:m".len())
    );
}

#[test]
fn real_names_resolve_and_keep_their_name() {
    let root: Policy = "user:root or group:root".parse().unwrap();
    assert_eq!(root.to_string(), "user:root or group:root");
    let built = Policy::user("root").unwrap();
    assert_eq!(Ok(root), Policy::group("root").map(|group| built.or(group)));
    assert_eq!(Policy::user("0"), Ok(Policy::uid(0)));
    assert_eq!(Policy::group("7"), Ok(Policy::gid(7)));
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}any{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parsed(&nested(32)).is_ok());
    assert_eq!(
        parsed(&nested(33)).unwrap_err().fault(),
        &PolicyFault::TooDeep
    );
    assert!(parsed(&format!("{}any", "not ".repeat(32))).is_ok());
    let error = parsed(&format!("{}any", "not ".repeat(33))).unwrap_err();
    assert_eq!(
        (error.fault(), error.column()),
        (&PolicyFault::TooDeep, Some(129))
    );
    // Beside each other there is no depth, and each "(" gives its level back.
    assert!(parsed(&format!("any{}", " or (not any)".repeat(1000))).is_ok());
    assert!(parsed(&format!("{}any", "any or ".repeat(2000))).is_ok());
    let bytes = POLICY_BYTES_MAX + 1;
    let long = " ".repeat(bytes);
    assert_eq!(
        parsed(&long).unwrap_err().fault(),
        &PolicyFault::TooLong { bytes }
    );
    assert!(parsed(&long).unwrap_err().to_string().len() < 400);
    assert!(parsed(&"(".repeat(POLICY_BYTES_MAX)).is_err());
    assert!(parsed(&"not ".repeat(POLICY_BYTES_MAX / 4)).is_err());
}

#[test]
fn a_verdict_names_the_deciding_term_and_fact() {
    let alice = peer(5, 105, &[4, 27]);
    let many = peer(5, 5, &(100..120).collect::<Vec<_>>());
    let unmapped = Peer::from(made_up(1, 7, Some(vec![65533]), Some("x\ny")));
    let address = "192.0.2.1:4242".parse().unwrap();
    let shown = |text: &str, peer: &Peer| parsed(text).unwrap().evaluate(peer).to_string();
    let table = [
        (shown("any", &alice), "admitted: any"),
        (shown("none", &alice), "refused: none"),
        (
            shown("none or user:alice", &alice),
            "admitted: user:alice (uid 5): the caller's uid is 5",
        ),
        (
            shown("any and user:7 and none", &alice),
            "refused: user:7: the caller's uid is 5",
        ),
        (
            shown("user:bob or group:app", &alice),
            "refused: user:bob (uid 3): the caller's uid is 5; \
             group:app (gid 103): the caller's gid is 105, its groups are 4 27",
        ),
        (
            shown("not user:alice", &alice),
            "refused: not user:alice (uid 5): the caller's uid is 5",
        ),
        (
            shown("not (user:1 or user:5)", &alice),
            "refused: not user:5: the caller's uid is 5",
        ),
        (
            shown(
                "user:1 or user:2 or user:3 or user:4 or user:6 or user:7",
                &alice,
            ),
            "refused: user:1: the caller's uid is 5; user:2: the caller's uid is 5; \
             user:3: the caller's uid is 5; user:4: the caller's uid is 5; and 2 more terms",
        ),
        (
            shown("group:7", &many),
            "refused: group:7: the caller's gid is 5, its groups are 100 101 102 103 104 105 106 107 108 109 110 \
             111 112 113 114 115 and 4 more",
        ),
        (
            shown("user:5", &unknown_peer()),
            "refused as unknown: user:5: the caller's uid is unknown (SO_PEERCRED: none given)",
        ),
        (
            shown("label:x", &unknown_peer()),
            "refused as unknown: label:x: the caller's label is unknown (SO_PEERSEC: not offered by this kernel)",
        ),
        (
            shown("label:x", &unmapped),
            "refused: label:x: the caller's label is \"x\\x0ay\"",
        ),
        (
            shown("group:9", &unmapped),
            "refused as unknown: group:9: the caller's gid is 7, it has no other groups, 1 more have no id here",
        ),
        (
            shown("user:5", &Peer::remote(address)),
            "refused as unknown: user:5: the caller is no local process (192.0.2.1:4242)",
        ),
    ];
    for (shown, expected) in table {
        assert_eq!(shown, expected);
    }
}

#[test]
fn chains_built_in_code_stay_flat() {
    let policy = (0..10_000).fold(Policy::none(), |policy, uid| policy.or(Policy::uid(uid)));
    assert!(matches!(&*policy.0, Expression::Either(parts) if parts.len() == 10_001));
    assert!(policy.evaluate(&peer(9999, 1, &[])).admits());
}
