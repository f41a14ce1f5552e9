//! Callers that never stop connecting: the runtime, the shutdown and the drain do not wait for them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test's helper a broken precondition is a failed test"
)]

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nigh_socket::{
    Address, Connection, Front, Limits, Listener, Policy, Protocol, Refused, Serving, SocketKind,
};
use tokio::sync::oneshot;

/// Lets every caller go at once.
#[derive(Debug)]
struct Deaf;

impl Protocol for Deaf {
    fn kind(&self) -> SocketKind {
        SocketKind::Stream
    }

    fn serve(&self, connection: Connection) -> Serving {
        Box::pin(async move { drop(connection) })
    }

    fn refuse(&self, refused: Refused) -> Serving {
        Box::pin(async move { drop(refused) })
    }
}

/// Threads that connect to an abstract name and leave, until told to end or after very many times.
struct Flood {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<bool>>,
}

impl Flood {
    fn at(address: &Address) -> Self {
        let Address::Abstract(name) = address else {
            panic!("not an abstract name: {address}");
        };
        let name = SocketAddr::from_abstract_name(name).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let connect = |over: Arc<AtomicBool>, name: SocketAddr| {
            move || {
                for _ in 0..300_000 {
                    if over.load(Ordering::Relaxed) || UnixStream::connect_addr(&name).is_err() {
                        return true;
                    }
                }
                false
            }
        };
        let threads = (0..2)
            .map(|_| std::thread::spawn(connect(Arc::clone(&over), name.clone())))
            .collect();
        Self { over, threads }
    }

    /// Ends it; whether it was still on.
    fn end(self) -> bool {
        self.over.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .all(|thread| thread.join().unwrap())
    }
}

fn front(policy: Policy, limits: Limits) -> (Front, Address) {
    let listener = Listener::options().bind("autobind:").unwrap();
    let address = listener.address().clone();
    let mut front = Front::new(limits, Arc::default());
    front.listen(listener, policy, Arc::new(Deaf));
    (front, address)
}

#[tokio::test]
async fn callers_that_never_stop_do_not_stop_the_runtime_or_the_shutdown() {
    for policy in [Policy::none(), Policy::any()] {
        let mut limits = Limits::default();
        limits.log_lines_per_second = 0;
        let (front, address) = front(policy, limits);
        let counters = front.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(front.run(async move { drop(stopped.await) }));
        let flood = Flood::at(&address);
        // On this one thread: other tasks and timers get their turn while callers pour in.
        loop {
            tokio::time::timeout(Duration::from_millis(10), std::future::pending::<()>())
                .await
                .unwrap_err();
            let counts = counters.read();
            if counts.connections_admitted + counts.connections_refused_by_policy > 1000 {
                break;
            }
        }
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
        assert!(flood.end(), "the flood ran dry before the server ended");
    }
}

#[tokio::test]
async fn a_drain_ends_although_callers_keep_coming() {
    let mut limits = Limits::default();
    limits.log_lines_per_second = 0;
    limits.drain_time = Duration::from_millis(100);
    let (front, address) = front(Policy::none(), limits);
    let flood = Flood::at(&address);
    let running = tokio::spawn(front.run(std::future::ready(())));
    running.await.unwrap().unwrap();
    assert!(flood.end(), "the flood ran dry before the drain ended");
}
