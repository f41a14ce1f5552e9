//! A server of test methods on a socket of its own, and raw packet peers that send whatever a test wants.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper's broken precondition is a failed test"
)]

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nigh_drpc::wire::{Assembler, Call, Response};
use nigh_drpc::{
    Client, ClientOptions, Failure, Limits, Module, Modules, Request, Server, ServerError, listener,
};
use nigh_socket::blocking::UnixSeqpacket;
use nigh_socket::{Address, Counters, Counts, Drained, Policy, Received};
use nigh_testkit::TempSocket;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::bytes_of::packets;

/// The test module's id, and its methods'.
pub(crate) const MODULE: i32 = 77;
pub(crate) const ECHO: i32 = 1;
pub(crate) const FAIL: i32 = 2;
pub(crate) const PANIC: i32 = 3;
pub(crate) const WAIT: i32 = 4;
pub(crate) const LARGE: i32 = 5;
pub(crate) const UNTIL_GONE: i32 = 6;
pub(crate) const GUARDED: i32 = 7;
pub(crate) const DESCRIPTORS: i32 = 8;
pub(crate) const PANIC_LATER: i32 = 9;
pub(crate) const PAYLOAD: i32 = 10;

/// What the handlers of one server share with its test.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Lets one `WAIT` go on per notice.
    pub(crate) open: Semaphore,
    /// A `WAIT` has begun.
    pub(crate) begun: Notify,
    /// Calls of `WAIT` at work.
    pub(crate) waiting: AtomicUsize,
    /// The most at once.
    pub(crate) waiting_max: AtomicUsize,
    /// A handler saw that its caller had gone.
    pub(crate) saw_gone: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: Semaphore::new(0),
            begun: Notify::new(),
            waiting: AtomicUsize::new(0),
            waiting_max: AtomicUsize::new(0),
            saw_gone: Notify::new(),
        }
    }
}

struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn new(gate: &'a Gate) -> Self {
        let now = gate.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        gate.waiting_max.fetch_max(now, Ordering::SeqCst);
        Self(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.begun.notify_one();
    }
}

/// Modules whose handlers echo, fail, panic, wait.
pub(crate) fn modules(gate: &Arc<Gate>) -> Modules {
    let (waiting, gone) = (Arc::clone(gate), Arc::clone(gate));
    let module = Module::new(MODULE, "test")
        .method(ECHO, "echo", async |call: Request| Ok(call.body))
        .method(FAIL, "fail", async |_| {
            Err::<Bytes, _>(Failure::new("as asked"))
        })
        .method(PANIC, "panic", async |call: Request| {
            assert!(call.body.is_empty(), "as asked");
            panic!("as asked");
            #[expect(unreachable_code, reason = "says what it would answer")]
            Ok(Bytes::new())
        })
        .method(PANIC_LATER, "panic later", async |call: Request| {
            tokio::task::yield_now().await;
            assert!(!call.body.is_empty(), "as asked");
            Ok(Bytes::new())
        })
        .method(WAIT, "wait", move |call: Request| {
            let gate = Arc::clone(&waiting);
            async move {
                let _waiting = Waiting::new(&gate);
                gate.begun.notify_one();
                gate.open.acquire().await.unwrap().forget();
                Ok(call.body)
            }
        })
        .method(LARGE, "large", async |call: Request| {
            let length: usize = String::from_utf8_lossy(&call.body).parse().unwrap();
            Ok(vec![b'x'; length])
        })
        .method(UNTIL_GONE, "until gone", move |mut call: Request| {
            let gate = Arc::clone(&gone);
            async move {
                gate.begun.notify_one();
                call.caller.gone().await;
                gate.saw_gone.notify_one();
                Ok(call.body)
            }
        })
        .method(GUARDED, "guarded", async |_| Ok(Bytes::new()))
        .method(PAYLOAD, "payload", async |_| {
            Err::<Bytes, _>(Failure::payload("not what I take"))
        })
        .method(DESCRIPTORS, "descriptors", async |call: Request| {
            Ok(nigh_drpc::Answer {
                body: call.body,
                descriptors: call.descriptors,
            })
        });
    let module = module.exchange_descriptors();
    let greeting =
        Module::new(0, "greeter").method(0, "greet", async |call: Request| Ok(call.body));
    let mut modules = Modules::new();
    modules.register(module).unwrap();
    modules.register(greeting).unwrap();
    modules
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) place: TempSocket,
    pub(crate) gate: Arc<Gate>,
    pub(crate) counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<Drained, ServerError>>,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::with(|server| server)
    }

    pub(crate) fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(|server| server.limits(limits))
    }

    pub(crate) fn with(change: impl FnOnce(Server) -> Server) -> Self {
        Self::at(TempSocket::private(), change)
    }

    /// Stops and starts another at the same path.
    pub(crate) async fn restart(mut self) -> Self {
        self.begin_drain();
        self.running.await.unwrap().unwrap();
        Self::at(self.place, |server| server)
    }

    fn at(place: TempSocket, change: impl FnOnce(Server) -> Server) -> Self {
        let gate = Arc::new(Gate::default());
        let bound = listener().bind(place.path()).unwrap();
        // As an ordinary user too: the tests are about calls.
        let server = Server::new(modules(&gate)).policy(Policy::any());
        let server = change(server).listen(bound);
        let counters = server.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self {
            place,
            gate,
            counters,
            stop: Some(stop),
            running,
        }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Path(self.place.path().to_owned())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(ClientOptions::default()).await
    }

    pub(crate) async fn client_with(&self, options: ClientOptions) -> Client {
        Client::connect(self.address(), options).await.unwrap()
    }

    /// A raw peer, to be used on a thread that may block.
    pub(crate) fn raw(&self) -> Raw {
        let options = nigh_socket::ConnectOptions::default();
        let (socket, _) = nigh_socket::blocking::connect_packet(&self.address(), &options).unwrap();
        Raw::new(socket)
    }

    pub(crate) fn begin_drain(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stop(mut self) -> Drained {
        self.begin_drain();
        self.running.await.unwrap().unwrap()
    }
}

/// A peer that sends packets as they are written.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) socket: UnixSeqpacket,
}

impl Raw {
    pub(crate) fn new(mut socket: UnixSeqpacket) -> Self {
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket
            .set_write_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self { socket }
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        self.socket.send(&[IoSlice::new(packet)], &[]).unwrap();
    }

    /// The next packet; `None` at the end.
    pub(crate) fn recv(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1 << 18];
        match self.socket.recv(&mut buffer) {
            Ok(Received::Packet(packet)) => Some(buffer[..packet.length].to_vec()),
            Ok(Received::End) | Err(nigh_socket::RecvError::Reset) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a call in chunks.
    pub(crate) fn send_call(&self, call: &Call) {
        for packet in packets(&call.encode()) {
            self.send(&packet);
        }
    }

    /// The next response, in chunks; `None` at the end.
    pub(crate) fn response(&self) -> Option<Response> {
        let mut assembler = Assembler::new(64 << 20);
        loop {
            if let Some(message) = assembler.push(&self.recv()?).unwrap() {
                return Some(Response::decode(&message).unwrap());
            }
        }
    }

    pub(crate) fn call(&self, call: &Call) -> Response {
        self.send_call(call);
        self.response().unwrap()
    }
}

/// A call of the test module.
pub(crate) fn call(method: i32, sequence: i64, body: impl Into<Bytes>) -> Call {
    Call {
        module: MODULE,
        method,
        sequence,
        body: body.into(),
        ..Call::default()
    }
}

/// Does what blocks beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
