//! tonic's own connection information, for services written before nigh.
//!
//! tonic's types can only be made from tokio's sockets, so a duplicate of the descriptor is shown to
//! tokio once per connection.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use http::Extensions;
use nigh_socket::{Address, Journal, Stream};
use tonic::transport::server::{Connected as _, UdsConnectInfo};

/// What tonic would have put into each request of this connection.
///
/// `UdsConnectInfo::peer_addr` is the caller's own name; callers hardly ever have one, and then it is
/// the published name of the listener, never the temporary one that the kernel remembers.
pub(crate) fn of(stream: &Stream, listener: &Address, journal: &Journal) -> Extensions {
    let mut extensions = Extensions::new();
    match stream {
        Stream::Unix(stream) => {
            extensions.insert(unix(stream, listener, journal));
        }
        Stream::Tcp(stream) => {
            extensions.insert(stream.connect_info());
        }
    }
    extensions
}

fn unix(stream: &nigh_socket::UnixStream, listener: &Address, journal: &Journal) -> UdsConnectInfo {
    let duplicate = stream
        .as_fd()
        .try_clone_to_owned()
        .map(std::os::unix::net::UnixStream::from)
        .and_then(tokio::net::UnixStream::from_std);
    let shown = match duplicate {
        Ok(duplicate) => duplicate.connect_info(),
        Err(error) => {
            // tonic's type has no other way to say it; nigh's own `Peer` is complete all the same.
            journal.warn(format_args!(
                "no UdsConnectInfo for a caller on {listener}: {error}"
            ));
            return UdsConnectInfo {
                peer_addr: None,
                peer_cred: None,
            };
        }
    };
    let named = shown.peer_addr.filter(|address| !address.is_unnamed());
    let peer_addr = named.or_else(|| published(listener).map(|name| Arc::new(name.into())));
    UdsConnectInfo {
        peer_addr,
        peer_cred: shown.peer_cred,
    }
}

/// `None` where the standard library's type cannot hold the name: paths over 107 bytes.
fn published(listener: &Address) -> Option<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    match listener {
        Address::Path(path) => SocketAddr::from_pathname(path).ok(),
        Address::Abstract(name) => SocketAddr::from_abstract_name(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caller_is_shown_with_the_listeners_published_name() {
        let front = nigh_socket::Front::new(nigh_socket::Limits::default(), Arc::default());
        let (ours, _theirs) = nigh_socket::UnixStream::pair().unwrap();
        let listener = Address::Path("/run/nigh.sock".into());
        let shown = of(&Stream::Unix(ours), &listener, &front.journal());
        let shown = shown.get::<UdsConnectInfo>().unwrap();
        let name = shown.peer_addr.as_ref().unwrap().as_pathname().unwrap();
        assert_eq!(name.to_str(), Some("/run/nigh.sock"));
    }
}
