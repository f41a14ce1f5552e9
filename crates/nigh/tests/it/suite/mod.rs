//! One suite over every wire: the nigh wire, HTTP/2 on the same socket, and TLS. What a caller sees must not differ.

mod interop;
mod random;
mod semantics;

use nigh::{Channel, ClientTls, Policy, Server, ServerTls, SharedMemory, Wire};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::test_client::TestClient;

use crate::common::{Served, bind};
use crate::tls::{Authority, tcp};

/// A server and a channel to it over one wire.
pub(crate) struct Stage {
    pub(crate) served: Served,
    pub(crate) channel: Channel,
}

/// Which wire a stage speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Nigh,
    SharedMemory,
    Http2,
    Tls,
}

impl Stage {
    pub(crate) async fn with(over: Over, change: impl FnOnce(Server) -> Server) -> Self {
        if over == Over::Tls {
            return Self::tls(change).await;
        }
        let wire = match over {
            Over::Nigh | Over::SharedMemory => Wire::Nigh,
            _ => Wire::Http2,
        };
        let shared_memory = match over {
            Over::SharedMemory => SharedMemory::on(),
            _ => SharedMemory::off(),
        };
        let served = Served::with(|server| change(server).shared_memory(shared_memory.clone()));
        let options = Channel::options().wire(wire).wait(false);
        let options = options.shared_memory(shared_memory);
        let channel = options.connect(served.address()).await.unwrap();
        Self { served, channel }
    }

    async fn tls(change: impl FnOnce(Server) -> Server) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.sign("localhost");
        let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes()).unwrap();
        let (listener, address) = tcp();
        let port = address.rsplit(':').next().unwrap().to_owned();
        let socket = TempSocket::private();
        let local = bind(&socket, 0o600);
        let served = Served::on(socket, local, |server| {
            change(server).listen_tls(listener, Policy::any(), tls)
        });
        let trust = ClientTls::authority(authority.pem().as_bytes()).unwrap();
        let options = Channel::options().tls(trust).wait(false);
        let address = format!("https://localhost:{port}");
        let channel = options.connect(address.as_str()).await.unwrap();
        Self { served, channel }
    }

    pub(crate) async fn plain(over: Over) -> Self {
        Self::with(over, |server| server).await
    }

    pub(crate) fn client(&self) -> TestClient<Channel> {
        TestClient::new(self.channel.clone())
    }
}

/// Each of these functions as a test over each wire, on one thread and on two.
macro_rules! on_every_wire {
    ($($case:ident),+ $(,)?) => {
        mod over_nigh {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(crate::suite::Over::Nigh).await;
                }
            )+
        }
        mod over_nigh_on_two_threads {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::suite::Over::Nigh).await;
                }
            )+
        }
        mod over_shared_memory {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(crate::suite::Over::SharedMemory).await;
                }
            )+
        }
        mod over_shared_memory_on_two_threads {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::suite::Over::SharedMemory).await;
                }
            )+
        }
        mod over_http2 {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(crate::suite::Over::Http2).await;
                }
            )+
        }
        mod over_tls {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(crate::suite::Over::Tls).await;
                }
            )+
        }
    };
}
use on_every_wire;
