//! The rows of the demonstration, one function each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nigh::{Address, Wire};
use nigh_drpc::modules::test;
use nigh_drpc::{CallError, Client, ClientOptions};
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient as FlagClient;
use nigh_flagd::service::proto::evaluation::v2::{EventStreamRequest, ResolveStringRequest};
use prost::Message as _;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status};

use super::stage::{FLAG, GUARDED, Stage};
use super::{DemoError, Done};
use crate::call::Caller;
use crate::call::status::code_name;
use crate::diag::pb::diag_client::DiagClient;
use crate::diag::pb::{
    CountersReply, CountersRequest, DownloadRequest, EchoRequest, SleepRequest, UploadRequest,
    WhoAmIRequest,
};
use crate::error::Failure;
use crate::greeting::{Hello, HelloResponse, OWN_MODULE, WHO_AM_I};

/// Calls of which the median is shown.
pub(super) const UNARY_CALLS: u32 = 300;
/// Bytes of one message in a stream, and messages of one stream: 16 MiB.
const STREAM: (u32, u32) = (64 << 10, 256);
/// Time that a call gets which needs longer.
const DEADLINE: Duration = Duration::from_millis(50);

/// Callers that go on while the server is replaced, on each connection there is and on new ones.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Result<u64, Failure>>,
}

impl Load {
    /// Begins to call over HTTP/2, nigh's own wire and dRPC.
    pub(super) fn start(stage: &Stage) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for wire in [Wire::Http2, Wire::Nigh] {
            for _ in 0..4 {
                callers.spawn(echoes(stage.address().clone(), wire, Arc::clone(&stop)));
            }
        }
        for _ in 0..4 {
            callers.spawn(greetings(stage.packets().clone(), Arc::clone(&stop)));
        }
        Self { stop, callers }
    }

    /// Ends it: how many were answered, and what the first failure was.
    pub(super) async fn end(mut self) -> (u64, Option<String>) {
        self.stop.store(true, Ordering::Release);
        let (mut calls, mut lost) = (0, None);
        while let Some(ended) = self.callers.join_next().await {
            match ended {
                Ok(Ok(answered)) => calls += answered,
                Ok(Err(failure)) => lost = Some(failure.message()),
                Err(error) => lost = Some(error.to_string()),
            }
        }
        (calls, lost)
    }
}

async fn echoes(address: Address, wire: Wire, stop: Arc<AtomicBool>) -> Result<u64, Failure> {
    let options = nigh::Channel::options().wire(wire).wait(false);
    let mut client = DiagClient::new(options.connect(address).await?);
    let mut calls = 0;
    while !stop.load(Ordering::Acquire) {
        client.echo(EchoRequest::default()).await?;
        calls += 1;
    }
    Ok(calls)
}

async fn greetings(address: Address, stop: Arc<AtomicBool>) -> Result<u64, Failure> {
    let client = Client::connect(address, ClientOptions::default()).await?;
    let mut calls = 0;
    while !stop.load(Ordering::Acquire) {
        let hello = Bytes::from(Hello::default().encode_to_vec());
        client.call(test::MODULE, test::GREETING, hello).await?;
        calls += 1;
    }
    Ok(calls)
}

/// A stock client, and what the server knows of it.
pub(super) async fn stock_who(stage: &Stage) -> Result<Done, Failure> {
    who(stage.stock.clone()).await
}

/// nigh's client, and what the server knows of it.
pub(super) async fn nigh_who(stage: &Stage) -> Result<Done, Failure> {
    who(stage.nigh.clone()).await
}

async fn who<T: Caller>(mut client: DiagClient<T>) -> Result<Done, Failure> {
    let start = Instant::now();
    let reply = client.who_am_i(WhoAmIRequest {}).await?.into_inner();
    let time = start.elapsed();
    let executable = reply.executable.and_then(|fact| fact.text);
    let program = executable
        .as_deref()
        .and_then(|path| path.rsplit('/').next());
    let result = match program {
        Some(program) => format!("the server knows it, and that it runs {program}"),
        None => "the server knows it".to_owned(),
    };
    Ok(Done {
        caller: reply.summary,
        result,
        time,
    })
}

/// The other direction: the kernel also tells the client who listens, and it is the process that was started.
pub(super) async fn server_who(stage: &Stage) -> Result<Done, Failure> {
    let start = Instant::now();
    let server = stage.channel.server().await?;
    let time = start.elapsed();
    let pid = server.as_local().and_then(|server| server.pid().value());
    if pid != Some(&stage.pid()) {
        let text = format!("{server} listens, and process {} was started", stage.pid());
        return Err(Status::internal(text).into());
    }
    Ok(Done {
        caller: String::new(),
        result: server.with_names().to_string(),
        time,
    })
}

/// A client stream and a server stream of many messages.
pub(super) async fn streams(stage: &Stage) -> Result<Done, Failure> {
    let mut client = stage.nigh.clone();
    let (message_bytes, count) = STREAM;
    let start = Instant::now();
    let data = Bytes::from(vec![0; message_bytes as usize]);
    let requests = (0..count).map(move |_| UploadRequest { data: data.clone() });
    let up = client.upload(tokio_stream::iter(requests)).await?;
    let request = DownloadRequest {
        count,
        message_bytes,
        interval: None,
    };
    let mut replies = client.download(request).await?.into_inner();
    let mut down = 0;
    while let Some(reply) = replies.message().await? {
        down += reply.data.len();
    }
    let time = start.elapsed();
    let up = up.into_inner().bytes;
    Ok(Done {
        caller: summary(client).await?,
        result: format!("{} MiB up, {} MiB down", up >> 20, down >> 20),
        time,
    })
}

/// Both sides speak in turn on one call.
pub(super) async fn conversation(stage: &Stage) -> Result<Done, Failure> {
    let mut client = stage.nigh.clone();
    let start = Instant::now();
    let (say, said) = tokio::sync::mpsc::channel(1);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut replies = client.echo_stream(said).await?.into_inner();
    let mut heard = Vec::new();
    for word in ["each", "line", "answered", "before", "the", "next"] {
        let text = word.to_owned();
        let request = EchoRequest {
            text,
            ..EchoRequest::default()
        };
        // A closed call shows as the end of its replies.
        let _ = say.send(request).await;
        heard.extend(replies.next().await.transpose()?.map(|reply| reply.text));
    }
    drop(say);
    let rest = replies.message().await?;
    let time = start.elapsed();
    let end = if rest.is_none() { "" } else { " and more" };
    Ok(Done {
        caller: summary(client).await?,
        result: format!("{}{end}", heard.join(" ")),
        time,
    })
}

/// dRPC's greeting, on a packet socket of the same server.
pub(super) async fn greeting(stage: &Stage) -> Result<Done, Failure> {
    let client = Client::connect(stage.packets().clone(), ClientOptions::default()).await?;
    let hello = Hello {
        name: "world".to_owned(),
    };
    let hello = Bytes::from(hello.encode_to_vec());
    let mut times = Vec::new();
    let mut answer = Bytes::new();
    for _ in 0..UNARY_CALLS {
        let start = Instant::now();
        answer = client
            .call(test::MODULE, test::GREETING, hello.clone())
            .await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let who = client.call(OWN_MODULE, WHO_AM_I, Bytes::new()).await?;
    let text = |body: Bytes| HelloResponse::decode(body).map_err(CallError::Decode);
    Ok(Done {
        caller: text(who)?.greeting,
        result: format!("{}, {UNARY_CALLS} times", text(answer)?.greeting),
        time: times[times.len() / 2],
    })
}

/// flagd's protocols on the same socket: the file with the flag is replaced, and the daemon tells who listens.
pub(super) async fn flag(stage: &Stage) -> Result<Done, Failure> {
    let mut client = FlagClient::new(stage.channel.clone());
    let request = ResolveStringRequest {
        flag_key: FLAG.to_owned(),
        context: None,
    };
    let before = client.resolve_string(request.clone()).await?.into_inner();
    let mut events = client.event_stream(EventStreamRequest {}).await?;
    let events = events.get_mut();
    let first = events.message().await?;
    if first.is_none_or(|event| event.r#type != "provider_ready") {
        return Err(Status::internal("the stream of events did not begin").into());
    }
    let start = Instant::now();
    stage.flip().map_err(DemoError::Flip)?;
    let event = events.message().await?.map(|event| event.r#type);
    let time = start.elapsed();
    let after = client.resolve_string(request).await?.into_inner();
    if event.as_deref() != Some("configuration_change") {
        return Err(Status::internal("another event than the change came").into());
    }
    let values = [before.value, after.value].map(Option::unwrap_or_default);
    Ok(Done {
        caller: summary(stage.nigh.clone()).await?,
        result: format!(
            "{} became {}, and the listener was told",
            values[0], values[1]
        ),
        time,
    })
}

/// A call that would take longer than it may.
pub(super) async fn deadline(stage: &Stage) -> Result<Done, Failure> {
    let mut client = stage.nigh.clone();
    let mut request = Request::new(EchoRequest {
        delay: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
        ..EchoRequest::default()
    });
    request.set_timeout(DEADLINE);
    let start = Instant::now();
    let refusal = refusal(client.echo(request).await, Code::DeadlineExceeded)?;
    let time = start.elapsed();
    Ok(Done {
        caller: summary(client).await?,
        result: format!("{refusal} after {} ms", DEADLINE.as_millis()),
        time,
    })
}

/// A method that the guard closes to this caller; the server's own counters show that nothing ran.
pub(super) async fn guarded(stage: &Stage) -> Result<Done, Failure> {
    let mut client = stage.stock.clone();
    let before = counters(&mut client).await?;
    let start = Instant::now();
    let refusal = refusal(
        client.sleep(SleepRequest::default()).await,
        Code::PermissionDenied,
    )?;
    let time = start.elapsed();
    let after = counters(&mut client).await?;
    let ran = runs(&after) - runs(&before);
    let refused = after.calls_refused - before.calls_refused;
    if (ran, refused) != (0, 1) {
        let text = format!("{refused} refused and {ran} handlers ran, instead of 1 and 0");
        return Err(Status::internal(text).into());
    }
    Ok(Done {
        caller: summary(client).await?,
        result: format!(
            "{refusal}: {GUARDED} is for group {}; handlers run: {ran}",
            stage.group()
        ),
        time,
    })
}

fn runs(counters: &CountersReply) -> u64 {
    let runs = counters.handlers_by_method.get(GUARDED);
    runs.copied().unwrap_or(0)
}

async fn counters<T: Caller>(client: &mut DiagClient<T>) -> Result<CountersReply, Failure> {
    Ok(client.counters(CountersRequest {}).await?.into_inner())
}

pub(super) async fn summary<T: Caller>(mut client: DiagClient<T>) -> Result<String, Failure> {
    Ok(client
        .who_am_i(WhoAmIRequest {})
        .await?
        .into_inner()
        .summary)
}

/// The name of the status that was to come; anything else is a failure.
fn refusal<T>(answer: Result<T, Status>, wanted: Code) -> Result<&'static str, Failure> {
    match answer {
        Err(status) if status.code() == wanted => Ok(code_name(wanted)),
        Err(status) => Err(status.into()),
        Ok(_) => Err(Status::internal("it was answered, and should have been refused").into()),
    }
}
