//! What fuzz targets need beyond the public interface: the parsers of what the kernel writes beside messages.

use crate::address::Address;
use crate::cmsg;
use crate::datagram::name;

/// The control messages in `bytes`, up to the first malformed one: level, kind and data.
#[must_use]
pub fn control_messages(bytes: &[u8]) -> Vec<(i32, i32, Vec<u8>)> {
    cmsg::parse(bytes)
        .map_while(Result::ok)
        .map(|control| (control.level, control.kind, control.data.to_vec()))
        .collect()
}

/// One control message with 32-bit numbers as data.
#[must_use]
pub fn control_message(level: i32, kind: i32, numbers: &[i32]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; cmsg::space(numbers.len() * 4)];
    cmsg::write_numbers(&mut bytes, level, kind, numbers.iter().copied()).map(|_| bytes)
}

/// The address in the bytes of a `struct sockaddr_un`.
#[must_use]
pub fn socket_name(bytes: &[u8]) -> Option<Address> {
    name::decode(bytes)
}

/// The bytes of a `struct sockaddr_un` for an address.
#[must_use]
pub fn name_bytes(address: &Address) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    match address {
        Address::Path(path) => name::path(path.as_os_str().as_bytes()),
        Address::Abstract(name) => name::abstract_name(name),
        _ => None,
    }
}
