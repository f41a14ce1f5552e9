//! What evaluations know of their caller: the kernel's word on a socket, nothing on TCP.

use std::sync::Arc;

use nigh::{Address, Channel, Listener, Policy, Server};
use nigh_flagd::eval::Fractional;
use nigh_flagd::service::proto::evaluation::v2::ResolveStringRequest;
use nigh_flagd::service::proto::evaluation::v2::service_client::ServiceClient;
use nigh_flagd::service::{Flagd, Options, PeerFact};
use nigh_flagd::value::to_struct;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::common::{Daemon, Flags, hub, source};

const FACTS: [&str; 4] = ["uid", "gid", "executable", "unit"];

/// A flag for each fact: whether the attribute has the `known` value, none, or another.
fn flags(known: &Value) -> Flags {
    let flags = FACTS.map(|fact| {
        let is = |value: &Value| json!({"===": [{"var": fact}, value]});
        let rule = json!({"if": [is(&known[fact]), "known", is(&Value::Null), "none", "forged"]});
        let variants = json!({"known": "known", "none": "none", "forged": "forged"});
        let flag = json!({"state": "ENABLED", "variants": variants, "targeting": rule});
        (fact.to_owned(), flag)
    });
    Flags::new(&Value::Object(flags.into_iter().collect()))
}

/// As strict as an operator can be, and as generous to callers: all three say another thing.
fn options() -> Options {
    let mut options = Options::default();
    let facts = FACTS.map(|fact| (fact.parse::<PeerFact>().unwrap(), fact.to_owned()));
    options.context_from_peer = facts.into();
    options.context = FACTS.map(|fact| (fact.to_owned(), json!("fixed"))).into();
    let headers = FACTS.map(|fact| (format!("x-{fact}"), fact.to_owned()));
    options.context_from_headers = headers.into();
    options
}

/// What each flag says to a caller that claims to be somebody else.
async fn answers(channel: Channel) -> [String; 4] {
    let forged = json!({"uid": 7, "gid": 7, "executable": "/bin/forged", "unit": "forged.service"});
    let forged = to_struct(forged.as_object().unwrap());
    let mut client = ServiceClient::new(channel);
    let mut values = Vec::new();
    for fact in FACTS {
        let mut request = tonic::Request::new(ResolveStringRequest {
            flag_key: fact.to_owned(),
            context: Some(forged.clone()),
        });
        let header = tonic::metadata::AsciiMetadataKey::from_bytes(format!("x-{fact}").as_bytes());
        let metadata = request.metadata_mut();
        metadata.insert(header.unwrap(), "header".parse().unwrap());
        let answer = client.resolve_string(request).await.unwrap().into_inner();
        values.push(answer.value.unwrap());
    }
    values.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_forges_what_the_kernel_knows() {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let units = cgroup.trim_end().rsplit('/');
    let mut units = units.filter(|part| part.ends_with(".service") || part.ends_with(".scope"));
    let known = json!({
        "uid": rustix::process::geteuid().as_raw(), "gid": rustix::process::getegid().as_raw(),
        "executable": std::env::current_exe().unwrap(), "unit": units.next(),
    });
    let flags = flags(&known);
    let daemon = Daemon::start(&[source(&flags.path)], Fractional::V2, options()).await;
    assert_eq!(answers(daemon.channel().await).await, ["known"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_tcp_the_same_is_served_and_nobody_is_known() {
    let flags =
        flags(&json!({"uid": 7, "gid": 7, "executable": "/bin/forged", "unit": "forged.service"}));
    let (hub, _sources) = hub(&[source(&flags.path)], Fractional::V2).await;
    let listener = Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let address: Address = listener.address().clone();
    let server = Flagd::new(Arc::clone(&hub), options()).serve_on(Server::new());
    let (_stop, stopped) = oneshot::channel::<()>();
    let running = server.listen_for(listener, Policy::any()).run(async {
        drop(stopped.await);
    });
    tokio::spawn(running);
    let channel = Channel::connect(&address).await.unwrap();
    assert_eq!(answers(channel).await, ["none"; 4]);
}
