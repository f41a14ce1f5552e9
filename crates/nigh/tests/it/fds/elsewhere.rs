//! A receiver that could not open the file itself: it lives in another mount namespace, where the path is missing.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nigh::{Channel, DescriptorsExt as _};
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::test_client::TestClient;
use tonic::Request;

use super::service::{generous, mentioned, message, roomy, serve};

#[tokio::test]
async fn a_file_arrives_where_its_path_leads_nowhere() {
    nigh_testkit::require_root!();
    let (served, _) = serve(roomy(), generous);
    // The child hides /var/tmp behind an empty file system and then runs the test below.
    let secret = tempfile("/var/tmp");
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("unshare");
    child
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs none /var/tmp && exec \"$0\" fds::elsewhere::hidden --exact --include-ignored --nocapture")
        .arg(program)
        .env("NIGH_TEST_SERVER", served.socket.address())
        .env("NIGH_TEST_SECRET", &secret)
        .stdin(Stdio::null());
    let output = tokio::process::Command::from(child).output().await.unwrap();
    std::fs::remove_file(&secret).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    served.stop().await;
}

fn tempfile(directory: &str) -> String {
    let path = format!("{directory}/nigh-{}", std::process::id());
    std::fs::write(&path, "found").unwrap();
    path
}

#[tokio::test]
#[ignore = "runs as a child of a_file_arrives_where_its_path_leads_nowhere"]
async fn hidden() {
    let path = nigh_testkit::child_variable("NIGH_TEST_SECRET");
    assert!(
        std::fs::File::open(&path).is_err(),
        "the path leads nowhere here"
    );
    let options = Channel::options().descriptors(roomy());
    let address = nigh_testkit::child_variable("NIGH_TEST_SERVER");
    let mut client = TestClient::new(options.connect(address.as_str()).await.unwrap());
    // Ours goes there and comes back; the server could not open it by name either.
    std::fs::write("/var/tmp/own", "mine").unwrap();
    let mut request = Request::new(Payload::default());
    let index = request
        .attach(std::fs::File::open("/var/tmp/own").unwrap())
        .unwrap();
    *request.get_mut() = message(&[index], 0);
    let reply = client.echo(request).await.unwrap();
    let back: OwnedFd = reply.take_fd(mentioned(reply.get_ref())[0]).unwrap();
    let content = std::io::read_to_string(std::fs::File::from(back)).unwrap();
    assert_eq!(content, "mine");
}
