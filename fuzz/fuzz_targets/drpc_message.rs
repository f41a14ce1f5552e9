//! dRPC's two messages: no bytes panic, and what was read is read again from what is written.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nigh_drpc::wire::{Call, Response};

fuzz_target!(|bytes: &[u8]| {
    let message = Bytes::copy_from_slice(bytes);
    let call = Call::decode(&message);
    assert_eq!(call.is_ok(), Call::is_valid(&message));
    if let Ok(call) = call {
        assert_eq!(Call::decode(&call.encode()), Ok(call));
    }
    if let Ok(response) = Response::decode(&message) {
        assert_eq!(Response::decode(&response.encode()), Ok(response));
    }
});
