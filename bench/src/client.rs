//! The callers of each variant.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nigh::DescriptorsExt as _;
use nigh_testkit::service::proto::test_client::TestClient;
use nigh_testkit::service::proto::{DownloadRequest, Payload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::body::Body;
use tonic::client::GrpcService;

use crate::{Failure, Scenario, Variant, lean, tarpc};

/// Messages of one stream.
const MESSAGES: u32 = 20_000;

/// One caller's calls: how long each took, in nanoseconds.
pub(crate) type Times = Vec<u64>;

/// Makes this many calls, over all callers together.
pub(crate) async fn count(
    variant: Variant,
    scenario: Scenario,
    socket: &Path,
    calls: usize,
) -> Result<usize, Failure> {
    let wire = match variant {
        Variant::Nigh | Variant::NighCodec | Variant::Shared | Variant::SharedSpin => {
            nigh::Wire::Nigh
        }
        _ => nigh::Wire::Http2,
    };
    let address = format!("unix:{}", socket.display());
    let options = nigh::Channel::options().wire(wire).wait(true);
    let options = options.shared_memory(variant.shared_memory());
    let (connections, callers) = scenario.callers();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let channel = options.clone().connect(address.as_str()).await?;
        for _ in 0..callers {
            let channel = channel.clone();
            let each = calls / connections / callers;
            let payload = Payload {
                data: vec![7; scenario.bytes()],
            };
            if variant == Variant::NighCodec {
                let client = lean::test_client::TestClient::new(channel);
                tasks.spawn(counted(client, payload, each));
            } else {
                tasks.spawn(counted(TestClient::new(channel), payload, each));
            }
        }
    }
    let mut all = 0;
    while let Some(each) = tasks.join_next().await {
        all += each??;
    }
    Ok(all)
}

async fn counted(mut client: impl Calls, payload: Payload, each: usize) -> Result<usize, Failure> {
    for _ in 0..each {
        client.echo(payload.clone()).await?;
    }
    Ok(each)
}

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
                calls(variant, connect, scenario, time).await
            }
            Variant::Tarpc => tarpc::calls(scenario, socket, time).await,
            Variant::NighHttp2 => {
                nigh_calls(variant, nigh::Wire::Http2, scenario, socket, time).await
            }
            Variant::Nigh | Variant::NighCodec | Variant::Shared | Variant::SharedSpin => {
                nigh_calls(variant, nigh::Wire::Nigh, scenario, socket, time).await
            }
        }
    })
}

async fn nigh_calls(
    variant: Variant,
    wire: nigh::Wire,
    scenario: Scenario,
    socket: &Path,
    time: Duration,
) -> Result<Times, Failure> {
    let address = format!("unix:{}", socket.display());
    let connect = || async {
        let options = nigh::Channel::options().wire(wire);
        let mut options = options.shared_memory(variant.shared_memory());
        if scenario == Scenario::Descriptor {
            options = options.descriptors(nigh::FdLimits::default());
        }
        Ok::<_, Failure>(options.connect(address.as_str()).await?)
    };
    calls(variant, connect, scenario, time).await
}

async fn calls<C, F, T>(
    variant: Variant,
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
            let channel = channel.clone();
            if variant == Variant::NighCodec {
                let client = lean::test_client::TestClient::new(channel);
                tasks.spawn(caller(client, scenario, begins, time));
            } else {
                tasks.spawn(caller(TestClient::new(channel), scenario, begins, time));
            }
        }
    }
    let mut all = Times::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

/// The two calls that are measured, of stubs with either codec.
trait Calls {
    fn echo(&mut self, payload: Payload) -> impl Future<Output = Result<(), Failure>> + Send;
    fn hold(&mut self, payload: Payload) -> impl Future<Output = Result<(), Failure>> + Send;
    /// As `echo`, with a descriptor.
    fn carry(
        &mut self,
        payload: Payload,
        file: &std::fs::File,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Reads a stream of so many messages of so many bytes.
    fn download(
        &mut self,
        count: u32,
        bytes: u32,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

macro_rules! stubs {
    ($client:ty) => {
        impl<C, T> Calls for $client
        where
            C: GrpcService<Body, ResponseBody = T> + Send,
            C::Future: Send,
            C::Error: Into<Failure>,
            T: http_body::Body<Data = bytes::Bytes> + Send + 'static,
            T::Error: Into<Failure> + Send,
        {
            async fn echo(&mut self, payload: Payload) -> Result<(), Failure> {
                Ok(drop(<$client>::echo(self, payload).await?))
            }

            async fn hold(&mut self, payload: Payload) -> Result<(), Failure> {
                Ok(drop(<$client>::hold(self, payload).await?))
            }

            async fn carry(
                &mut self,
                payload: Payload,
                file: &std::fs::File,
            ) -> Result<(), Failure> {
                let mut request = tonic::Request::new(payload);
                request.attach(file)?;
                Ok(drop(<$client>::echo(self, request).await?))
            }

            async fn download(&mut self, count: u32, bytes: u32) -> Result<(), Failure> {
                let request = DownloadRequest { count, bytes };
                let mut messages = <$client>::download(self, request).await?.into_inner();
                let mut came = 0;
                while messages.message().await?.is_some() {
                    came += 1;
                }
                match came == count {
                    true => Ok(()),
                    false => Err(format!("{came} of {count} messages").into()),
                }
            }
        }
    };
}

stubs!(TestClient<C>);
stubs!(lean::test_client::TestClient<C>);

async fn caller(
    mut client: impl Calls,
    scenario: Scenario,
    begins: Instant,
    time: Duration,
) -> Result<Times, Failure> {
    let payload = Payload {
        data: vec![7; scenario.bytes()],
    };
    let file = std::fs::File::open("/dev/null")?;
    let mut times = Times::new();
    loop {
        let started = Instant::now();
        if started >= begins + time {
            return Ok(times);
        }
        let request = payload.clone();
        let mut count = 1;
        match scenario {
            Scenario::Middle | Scenario::Large | Scenario::Huge => client.hold(request).await?,
            Scenario::Descriptor => client.carry(request, &file).await?,
            Scenario::Messages => {
                count = MESSAGES;
                client.download(count, 64).await?;
            }
            _ => client.echo(request).await?,
        };
        if started >= begins {
            let each = nanoseconds(started.elapsed()) / u64::from(count);
            times.extend((0..count).map(|_| each));
        }
    }
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
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
