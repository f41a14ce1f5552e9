//! Control messages: any bytes parse without a panic and within their length, and what was written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh_socket::fuzzing::{control_message, control_messages};

fuzz_target!(|bytes: &[u8]| {
    let found = control_messages(bytes);
    let data: usize = found.iter().map(|(_, _, data)| data.len()).sum();
    assert!(data <= bytes.len());
    for (level, kind, data) in found {
        let (numbers, _) = data.as_chunks::<4>();
        let numbers: Vec<i32> = numbers.iter().map(|number| i32::from_ne_bytes(*number)).collect();
        let written = control_message(level, kind, &numbers).expect("there is room for it");
        let again = control_messages(&written);
        let expected = data[..numbers.len() * 4].to_vec();
        assert_eq!(again, [(level, kind, expected)]);
    }
});
