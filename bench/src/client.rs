//! The callers of each variant.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::body::Body;
use tonic::client::GrpcService;

use crate::{Failure, Scenario, Variant};

/// One caller's calls: how long each took, in nanoseconds.
pub(crate) type Times = Vec<u64>;

/// Calls for `time` after a short warm-up; all callers' times.
pub(crate) fn run(
    variant: Variant,
    scenario: Scenario,
    socket: &Path,
    time: Duration,
) -> Result<Times, Failure> {
    if variant == Variant::Raw {
        return raw(scenario, socket, time);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match variant {
            Variant::Raw => Ok(Times::new()),
            Variant::Tokio => echo(scenario, socket, time).await,
            Variant::Tonic => {
                let address = format!("unix:{}", socket.display());
                let connect = || async {
                    let endpoint = tonic::transport::Endpoint::from_shared(address.clone())?
                        .initial_stream_window_size(4 * 1024 * 1024)
                        .initial_connection_window_size(8 * 1024 * 1024);
                    Ok::<_, Failure>(endpoint.connect().await?)
                };
                calls(connect, scenario, time).await
            }
            Variant::NighHttp2 => nigh_calls(nigh::Wire::Http2, scenario, socket, time).await,
            Variant::Nigh => nigh_calls(nigh::Wire::Nigh, scenario, socket, time).await,
        }
    })
}

async fn nigh_calls(
    wire: nigh::Wire,
    scenario: Scenario,
    socket: &Path,
    time: Duration,
) -> Result<Times, Failure> {
    let address = format!("unix:{}", socket.display());
    let connect = || async {
        let options = nigh::Channel::options().wire(wire);
        Ok::<_, Failure>(options.connect(address.as_str()).await?)
    };
    calls(connect, scenario, time).await
}

async fn calls<C, F, T>(
    connect: impl Fn() -> F,
    scenario: Scenario,
    time: Duration,
) -> Result<Times, Failure>
where
    F: Future<Output = Result<C, Failure>>,
    C: GrpcService<Body, ResponseBody = T> + Clone + Send + 'static,
    C::Future: Send,
    C::Error: Into<Failure>,
    T: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    T::Error: Into<Failure> + Send,
{
    let (connections, callers) = scenario.callers();
    let mut tasks = tokio::task::JoinSet::new();
    let begins = Instant::now() + time / 5;
    for _ in 0..connections {
        let channel = connect().await?;
        for _ in 0..callers {
            let client = TestClient::new(channel.clone());
            tasks.spawn(caller(client, scenario, begins, time));
        }
    }
    let mut all = Times::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

async fn caller<C, T>(
    mut client: TestClient<C>,
    scenario: Scenario,
    begins: Instant,
    time: Duration,
) -> Result<Times, Failure>
where
    C: GrpcService<Body, ResponseBody = T>,
    C::Error: Into<Failure>,
    T: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    T::Error: Into<Failure> + Send,
{
    let payload = Payload {
        data: vec![7; scenario.bytes()],
    };
    let mut times = Times::new();
    loop {
        let started = Instant::now();
        if started >= begins + time {
            return Ok(times);
        }
        let request = payload.clone();
        match scenario {
            Scenario::Large => client.hold(request).await?,
            _ => client.echo(request).await?,
        };
        if started >= begins {
            times.push(nanoseconds(started.elapsed()));
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn message(scenario: Scenario) -> Vec<u8> {
    let bytes = scenario.bytes();
    let mut message = u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .to_le_bytes()
        .to_vec();
    message.resize(message.len() + bytes, 7);
    message
}

fn raw(scenario: Scenario, socket: &Path, time: Duration) -> Result<Times, Failure> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    let message = message(scenario);
    let mut answer = vec![0; 4 + crate::server::answer_length(scenario.bytes())];
    let begins = Instant::now() + time / 5;
    let mut times = Times::new();
    loop {
        let started = Instant::now();
        if started >= begins + time {
            return Ok(times);
        }
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        if started >= begins {
            times.push(nanoseconds(started.elapsed()));
        }
    }
}

async fn echo(scenario: Scenario, socket: &Path, time: Duration) -> Result<Times, Failure> {
    let mut stream = tokio::net::UnixStream::connect(socket).await?;
    let message = message(scenario);
    let mut answer = vec![0; 4 + crate::server::answer_length(scenario.bytes())];
    let begins = Instant::now() + time / 5;
    let mut times = Times::new();
    loop {
        let started = Instant::now();
        if started >= begins + time {
            return Ok(times);
        }
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        if started >= begins {
            times.push(nanoseconds(started.elapsed()));
        }
    }
}
