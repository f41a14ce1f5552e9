//! Shortages and quotas: they cost the caller that hits them, and nobody else.

use std::os::fd::OwnedFd;

use nigh_testkit::Child;
use nigh_testkit::service::proto::DownloadRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::common::{Served, payload};

#[tokio::test]
async fn connections_over_a_quota_are_told_to_try_again() {
    let served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        limits.connections.connections_per_uid_max = 2;
        server.limits(limits)
    });
    let mut first = served.client().await;
    let mut second = served.client().await;
    first.echo(payload("")).await.unwrap();
    second.echo(payload("")).await.unwrap();
    let status = served.client().await.echo(payload("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(served.counts().connections_refused_by_quota, 1);
    drop(second);
    // The server notices the end of the second connection, and then there is room again.
    loop {
        match served.client().await.echo(payload("")).await {
            Ok(_) => break,
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
    }
    first.echo(payload("")).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_silent_caller_over_tcp_is_let_go_and_a_local_one_is_left_alone() {
    let tcp = nigh::Listener::options().bind("tcp:127.0.0.1:0").unwrap();
    let address = tcp.address().to_string().replace("tcp:", "");
    let served = Served::with(|server| {
        let mut limits = nigh::Limits::default();
        assert!(limits.http2.keepalive_remote.is_some());
        let brief = std::time::Duration::from_millis(30);
        limits.http2.keepalive_remote = Some(brief);
        limits.http2.keepalive_timeout = brief;
        server.limits(limits).listen_for(tcp, nigh::Policy::any())
    });
    let mut local = crate::frames::connect(&served).await;
    let mut remote = tokio::net::TcpStream::connect(address).await.unwrap();
    remote.write_all(&crate::frames::greeting()).await.unwrap();
    // It answers no PING, as a machine that has lost its power.
    let mut all = Vec::new();
    let _ = remote.read_to_end(&mut all).await;
    let call = crate::frames::call(1, "/nigh.test.v1.Test/Echo");
    local.write_all(&call).await.unwrap();
    crate::frames::read_until(&mut local, crate::frames::HEADERS, 1).await;
    drop(local);
    served.stop().await;
}

/// Takes every descriptor that this process may have.
fn take_descriptors() -> Vec<OwnedFd> {
    nigh_testkit::limit_descriptors(256);
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut taken: Vec<OwnedFd> = Vec::new();
    while let Ok(copy) = file.try_clone() {
        taken.push(copy.into());
    }
    taken
}

#[test]
fn with_no_descriptors_left_the_server_neither_spins_nor_dies_and_recovers() {
    // In a process of its own: it uses up a table that all tests share.
    Child::test("limits::starved").run().assert_success();
}

#[tokio::test]
#[ignore = "runs as a child of with_no_descriptors_left_the_server_neither_spins_nor_dies_and_recovers"]
async fn starved() {
    let served = Served::plain();
    let mut early = served.client().await;
    early.echo(payload("")).await.unwrap();
    let stat = std::fs::File::open("/proc/self/stat").unwrap();
    let late = tokio::net::UnixSocket::new_stream().unwrap();
    let taken = take_descriptors();
    let mut late = late.connect(served.socket.path()).await.unwrap();
    late.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    while served.counts().accept_pauses < 2 {
        // The connections that live are served meanwhile.
        early.echo(payload("")).await.unwrap();
    }
    // A full send buffer asks for a descriptor too; without one it waits, and the call goes on.
    let request = DownloadRequest {
        count: 200,
        bytes: 65_536,
    };
    let mut much = early.download(request).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(part) = much.message().await.unwrap() {
        bytes += part.data.len();
    }
    assert_eq!(bytes, 200 * 65_536);
    let ticks = cpu_ticks(&stat);
    let pauses = served.counts().accept_pauses;
    while served.counts().accept_pauses < pauses + 5 {
        tokio::task::yield_now().await;
        tokio::time::timeout(
            std::time::Duration::from_millis(50),
            std::future::pending::<()>(),
        )
        .await
        .unwrap_err();
    }
    // Five pauses of growing length are more than half a second; a spinning core would use them all.
    let used = cpu_ticks(&stat) - ticks;
    assert!(
        used <= 10,
        "{used} ticks of 10 ms while there was nothing to do"
    );
    drop(taken);
    let mut answer = [0; 12];
    late.read_exact(&mut answer).await.unwrap();
    assert_eq!(
        &answer, b"HTTP/1.1 404",
        "the caller that had to wait is served"
    );
    assert!(
        served.counts().accept_pauses < 50,
        "it paused, and did not try again and again"
    );
    served.stop().await;
}

/// User and system time of this process, in ticks of 10 ms (`proc_pid_stat(5)`, fields 14 and 15).
fn cpu_ticks(stat: &std::fs::File) -> u64 {
    use std::os::unix::fs::FileExt as _;
    let mut text = [0; 1024];
    let length = stat.read_at(&mut text, 0).unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    let after_name = text.rsplit_once(") ").unwrap().1;
    let fields: Vec<u64> = after_name
        .split(' ')
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    fields[11] + fields[12]
}
