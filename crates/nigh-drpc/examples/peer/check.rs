//! The checks that the example peer makes of a server.

use bytes::Bytes;
use nigh_drpc::wire::Status;
use nigh_drpc::{BlockingClient, CallError, ClientOptions, Speaks};
use nigh_socket::Address;
use prost::Message as _;

fn hello(name: &str) -> Bytes {
    name.to_owned().encode_to_vec().into()
}

/// What it shows, module, method, body, and what must come back.
type Case = (&'static str, i32, i32, Bytes, Result<Bytes, Status>);

fn cases(large: usize) -> [Case; 5] {
    let none = Bytes::new();
    let large: Bytes = (0..=250).cycle().take(large).collect();
    let bad = Bytes::from_static(&[0xff]);
    let module = Err(Status::UnknownModule);
    let method = Err(Status::UnknownMethod);
    let payload = Err(Status::FailedUnmarshalPayload);
    let greeting = Ok(hello("Hello Friend"));
    [
        ("hello", 0, 0, hello("Friend"), greeting),
        ("a large body", 77, 1, large.clone(), Ok(large)),
        ("an unknown module", 9, 1, none.clone(), module),
        ("an unknown method", 77, 99, none, method),
        ("a body that cannot be read", 0, 0, bad, payload),
    ]
}

/// Prints one line per check; returns whether all passed.
pub(crate) fn check(
    address: &Address,
    name: &str,
    speaks: Speaks,
    large: usize,
) -> Result<bool, CallError> {
    let options = ClientOptions::default().speaks(speaks);
    let mut client = BlockingClient::connect(address.clone(), options)?;
    let mut all = true;
    for (check, module, method, body, expected) in cases(large) {
        let found = match client.call(module, method, body) {
            Err(CallError::Status { status, .. }) => Err(status),
            other => Ok(other?),
        };
        let is_ok = found == expected;
        all &= is_ok;
        let result = if is_ok { "ok" } else { "not ok" };
        println!("{result} - nigh client {name}: {check}");
    }
    Ok(all)
}
