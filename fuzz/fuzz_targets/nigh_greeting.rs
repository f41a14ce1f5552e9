//! The nigh wire's greeting: it is known by its own bytes alone, no earlier and no later, and comes back as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh::fuzzing::{Greeted, nigh_greeting};

fuzz_target!(|bytes: &[u8]| {
    let whole = nigh_greeting(bytes);
    for end in 0..bytes.len().min(1100) {
        let part = nigh_greeting(&bytes[..end]);
        match (&whole, &part) {
            (Greeted::Is(_, length), Greeted::Is(..)) => assert!(end >= *length && part == whole),
            (Greeted::Is(_, length), Greeted::More) => assert!(end < *length),
            (Greeted::None(_), Greeted::More) | (Greeted::More, Greeted::More) => {}
            (Greeted::None(_), Greeted::None(_)) => assert_eq!(part, whole),
            _ => panic!("{part:?} became {whole:?}"),
        }
    }
    if let Greeted::Is(written, _) = whole {
        let length = written.len();
        assert_eq!(nigh_greeting(&written), Greeted::Is(written, length));
    }
});
