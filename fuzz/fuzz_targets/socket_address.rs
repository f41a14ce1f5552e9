//! Addresses: any text and any kernel bytes are one or are refused, and one is the same after it was written and read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nigh_socket::Address;
use nigh_socket::fuzzing::{name_bytes, socket_name};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(address) = text.parse::<Address>()
    {
        let again: Address = address.to_string().parse().expect("what is printed is an address");
        assert_eq!(again, address);
    }
    if let Some(address) = socket_name(bytes)
        && let Some(written) = name_bytes(&address)
    {
        assert_eq!(socket_name(&written), Some(address));
    }
});
