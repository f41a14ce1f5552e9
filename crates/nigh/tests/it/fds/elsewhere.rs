//! A receiver that could not open the file itself: it lives in another mount namespace, where the path is missing.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use nigh::{Channel, DescriptorsExt as _, FileKind, Server, Wire, fdcheck};
use nigh_testkit::TempSocket;
use nigh_testkit::service::proto::broker_client::BrokerClient;
use nigh_testkit::service::proto::broker_server::{Broker, BrokerServer};
use nigh_testkit::service::proto::wish::Wish as Kind;
use nigh_testkit::service::proto::{Gift, Wish};
use tonic::{Request, Response, Status};

use super::service::{generous, on_both_wires, roomy, wire_of_child, word};
use crate::common::{Served, bind};

/// Opens in its own namespace what it is asked for, and reads the file that came with the question.
struct Opener;

#[tonic::async_trait]
impl Broker for Opener {
    async fn give(&self, request: Request<Wish>) -> Result<Response<Gift>, Status> {
        let mut reply = Response::new(Gift::default());
        match request.get_ref().wish.clone() {
            Some(Kind::Open(path)) => reply.get_mut().fd = reply.attach(File::open(path)?)?.into(),
            // The caller's file, which this process could not open by name: the length of its content.
            Some(Kind::Bind(index)) => {
                let content = std::io::read_to_string(File::from(request.take_fd(index)?))?;
                reply.get_mut().fd = u32::try_from(content.len()).unwrap();
            }
            None => return Err(Status::invalid_argument("nothing was asked for")),
        }
        Ok(reply)
    }
}

async fn a_file_arrives_where_its_path_leads_nowhere(wire: Wire) {
    nigh_testkit::require_root!();
    let socket = TempSocket::shared();
    let listener = bind(&socket, 0o666);
    let served = Served::of(socket, listener, |server: Server| {
        let server = server.service(BrokerServer::new(Opener));
        generous(server.receive_descriptors("nigh.test.v1.Broker", roomy()))
    });
    // The child hides /var/tmp behind an empty file system and then runs the test below.
    let secret = tempfile("/var/tmp");
    let inode = std::fs::metadata(&secret).unwrap().ino();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("unshare");
    child
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs none /var/tmp && exec \"$0\" fds::elsewhere::hidden --exact --include-ignored --nocapture")
        .arg(program)
        .env("NIGH_TEST_SERVER", served.socket.address())
        .env("NIGH_TEST_WIRE", word(wire))
        .env("NIGH_TEST_SECRET", &secret)
        .env("NIGH_TEST_INODE", inode.to_string())
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
    std::fs::write(&path, "the parent's own").unwrap();
    path
}

#[tokio::test]
#[ignore = "runs as a child of a_file_arrives_where_its_path_leads_nowhere"]
async fn hidden() {
    let path = nigh_testkit::child_variable("NIGH_TEST_SECRET");
    assert!(File::open(&path).is_err(), "the path leads nowhere here");
    let options = Channel::options()
        .wire(wire_of_child())
        .descriptors(roomy());
    let address = nigh_testkit::child_variable("NIGH_TEST_SERVER");
    let mut client = BrokerClient::new(options.connect(address.as_str()).await.unwrap());
    // The parent's own file, by its path there.
    let wish = Wish {
        wish: Some(Kind::Open(path.clone())),
    };
    let reply = client.give(wish).await.unwrap();
    let file = File::from(reply.take_fd(reply.get_ref().fd).unwrap());
    fdcheck::require_kind(&file, FileKind::Regular).unwrap();
    let inode = nigh_testkit::child_variable("NIGH_TEST_INODE");
    assert_eq!(file.metadata().unwrap().ino().to_string(), inode);
    assert_eq!(std::io::read_to_string(file).unwrap(), "the parent's own");
    // And ours there, which the parent could not open by name either.
    std::fs::write("/var/tmp/own", "mine").unwrap();
    let mut request = Request::new(Wish::default());
    let index = request.attach(File::open("/var/tmp/own").unwrap()).unwrap();
    request.get_mut().wish = Some(Kind::Bind(index.into()));
    assert_eq!(client.give(request).await.unwrap().get_ref().fd, 4);
}

on_both_wires! {
    a_file_arrives_where_its_path_leads_nowhere,
}
