//! For any policy: its text parses back to it, and an unknown fact never decides.

use proptest::prelude::*;

use super::tests::parsed;
use super::{Policy, Truth};
use crate::peer::Peer;
use crate::peer::tests::made_up;

fn any_policy() -> impl Strategy<Value = Policy> {
    let name = "[^0-9\0][^\0]{0,8}";
    let named =
        move |text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let leaf = prop_oneof![
        Just(Policy::any()),
        Just(Policy::none()),
        Just(Policy::same_user()),
        any::<u32>().prop_map(Policy::uid),
        (0..8_u32).prop_map(Policy::uid),
        (0..8_u32).prop_map(Policy::gid),
        name.prop_map(move |user| parsed(&format!("user:{}", named(user))).unwrap()),
        name.prop_map(move |group| parsed(&format!("group:{}", named(group))).unwrap()),
        prop::collection::vec(any::<u8>(), 0..6).prop_map(Policy::label),
        "[ab]".prop_map(Policy::label),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|policy| !policy),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner).prop_map(|(a, b)| a.or(b)),
        ]
    })
}

proptest! {
    #[test]
    fn printing_then_parsing_is_the_identity(policy in any_policy()) {
        let printed = policy.to_string();
        prop_assert!(!printed.chars().any(char::is_control), "{}", printed);
        prop_assert_eq!(parsed(&printed), Ok(policy), "{}", printed);
    }

    #[test]
    fn no_text_panics(text in "(any|none|not|and|or|user:|group:|label:|[() \"'\\\\x0aé:]){0,40}") {
        match parsed(&text) {
            Ok(policy) => {
                let printed = policy.to_string();
                prop_assert_eq!(parsed(&printed), Ok(policy), "{}", printed);
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    /// Whatever the hidden facts are, a definite verdict without them is the verdict with them.
    #[test]
    fn what_is_unknown_never_decides(
        policy in any_policy(),
        (uid, gid) in (0..8_u32, 0..8_u32),
        groups in prop::collection::vec(0..8_u32, 0..4),
        label in "[ab]",
        hidden in any::<[bool; 5]>(),
    ) {
        let whole = Peer::from(made_up(uid, gid, Some(groups.clone()), Some(&label)));
        let mut shown = groups;
        if hidden[4] {
            // All but the first have no id in this namespace.
            shown.iter_mut().skip(1).for_each(|gid| *gid = 65533);
        }
        let partly = Peer::from(made_up(
            if hidden[0] { 65534 } else { uid },
            if hidden[1] { u32::MAX } else { gid },
            if hidden[2] { None } else { Some(shown) },
            if hidden[3] { None } else { Some(&label) },
        ));
        let (with, without) = (policy.evaluate(&whole), policy.evaluate(&partly));
        prop_assert_ne!(with.truth(), Truth::Unknown);
        prop_assert!(without.truth() == with.truth() || without.truth() == Truth::Unknown, "{}", policy);
        prop_assert_eq!(without.admits(), without.truth() == Truth::Yes);
        prop_assert!(!without.to_string().contains('\n'));
    }
}
