//! Every message comes back; nothing else is one.

use super::*;

fn claim() -> Claim {
    Claim {
        name: "main".into(),
        address: "unix:/run/app.sock".parse().unwrap(),
        kind: SocketKind::Seqpacket,
        file: Some(FileClaim {
            device: 7,
            inode: u64::MAX,
        }),
        is_control: true,
    }
}

fn all() -> Vec<Message> {
    let mut plain = claim();
    plain.file = None;
    plain.address = "tcp:[::1]:80".parse().unwrap();
    vec![
        Message::Hello { version: 9 },
        Message::Offer { listeners: 64 },
        Message::Listener {
            index: 3,
            claim: Box::new(claim()),
        },
        Message::Listener {
            index: 4,
            claim: Box::new(plain),
        },
        Message::Received { index: 3 },
        Message::Ready { taken: 1 << 63 },
        Message::Go,
        Message::Serving,
        Message::Connection {
            id: 7,
            listener: 1,
            state: vec![1, 2],
        },
        Message::Moved { id: 7 },
        Message::Kept { id: 7 },
        Message::Left,
        Message::Refused {
            reason: RefusalReason::TooLate,
            detail: "5 s".into(),
        },
    ]
}

#[test]
fn every_message_comes_back() {
    for message in all() {
        assert_eq!(Message::decode(&message.encode()), Ok(message.clone()));
        assert!(message.encode().len() <= MESSAGE_BYTES_MAX);
    }
}

#[test]
fn no_beginning_of_a_message_is_one() {
    for message in all() {
        let bytes = message.encode();
        for length in 0..bytes.len() {
            Message::decode(&bytes[..length]).unwrap_err();
        }
    }
}

#[test]
fn no_change_of_a_byte_makes_it_panic() {
    for message in all() {
        let bytes = message.encode();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let _ = Message::decode(&bytes);
            }
        }
    }
}

#[test]
fn what_is_claimed_is_bounded() {
    let refused = |message: Message| Message::decode(&message.encode()).unwrap_err();
    assert_eq!(
        refused(Message::Offer { listeners: 65 }),
        MalformedMessage::TooMany(65)
    );
    assert_eq!(
        refused(Message::Offer { listeners: 0 }),
        MalformedMessage::TooMany(0)
    );
    let mut named = claim();
    named.name = "a:b".into();
    let named = Box::new(named);
    let index = 0;
    assert_eq!(
        refused(Message::Listener {
            index,
            claim: named
        }),
        MalformedMessage::Text
    );
    let long = Message::Refused {
        reason: RefusalReason::Other,
        detail: "ä".repeat(REASON_BYTES_MAX),
    };
    assert!(matches!(
        Message::decode(&long.encode()),
        Ok(Message::Refused { detail, .. }) if detail.len() == REASON_BYTES_MAX
    ));
}
