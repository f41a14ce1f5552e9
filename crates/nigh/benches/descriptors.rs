//! What a call without descriptors costs on a connection that could carry some, over HTTP/2, both ends in one thread.
//!
//! `cargo bench -p nigh --bench descriptors` prints medians of interleaved rounds. With `KIND CALLS` it only makes so many
//! calls of one kind: the difference of two runs under `valgrind --tool=callgrind` is instructions per call.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and stops where it cannot go on"
)]

use std::fs::File;
use std::time::{Duration, Instant};

use nigh::{Channel, DescriptorsExt as _, FdLimits, Listener, Server, Wire};
use nigh_testkit::TempSocket;
use nigh_testkit::service::TestService;
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use tonic::Request;

/// Calls of one kind in a row, and how often each kind has its turn.
const CALLS: u32 = 300;
const ROUNDS: usize = 41;

/// Who is ready for descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Neither end.
    Neither,
    /// The server receives some; this client has none.
    Server,
    /// Both ends.
    Both,
    /// Both, and each call brings one that nobody takes.
    File,
}

const KINDS: [(&str, Kind); 4] = [
    ("neither", Kind::Neither),
    ("server", Kind::Server),
    ("both", Kind::Both),
    ("file", Kind::File),
];

struct End {
    client: TestClient<Channel>,
    kind: Kind,
    file: File,
    _socket: TempSocket,
}

impl End {
    async fn of(kind: Kind) -> Self {
        let socket = TempSocket::private();
        let address = socket.address();
        let listener = Listener::options().bind(address.as_str()).unwrap();
        let mut server = Server::new().service(TestService::default().server());
        if kind != Kind::Neither {
            server = server.receive_descriptors("nigh.test.v1.Test", FdLimits::default());
        }
        tokio::spawn(server.serve(listener));
        let mut options = Channel::options().wire(Wire::Http2);
        if matches!(kind, Kind::Both | Kind::File) {
            options = options.descriptors(FdLimits::default());
        }
        let channel = options.connect(address.as_str()).await.unwrap();
        Self {
            client: TestClient::new(channel),
            kind,
            file: File::open("/dev/null").unwrap(),
            _socket: socket,
        }
    }

    async fn calls(&mut self, count: u32) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            let mut request = Request::new(Payload { data: vec![7; 64] });
            if self.kind == Kind::File {
                request.attach(&self.file).unwrap();
            }
            self.client.echo(request).await.unwrap();
        }
        start.elapsed() / count
    }
}

async fn rounds() {
    let mut ends = Vec::new();
    for (name, kind) in KINDS {
        ends.push((name, End::of(kind).await, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (_, end, times) in &mut ends {
            times.push(end.calls(CALLS).await);
        }
    }
    let mut first = None;
    for (name, _, times) in &mut ends {
        times.sort_unstable();
        let median = times[times.len() / 2];
        let base = *first.get_or_insert(median);
        let ratio = median.as_secs_f64() / base.as_secs_f64();
        println!("{name:8} {median:>10.2?} per call, {ratio:.3} of neither");
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen = arguments.first().and_then(|word| {
        let kind = KINDS.iter().find(|(name, _)| name == word)?;
        Some((kind.1, arguments.get(1)?.parse().ok()?))
    });
    runtime.block_on(async {
        match chosen {
            Some((kind, count)) => drop(End::of(kind).await.calls(count).await),
            None => rounds().await,
        }
    });
}
