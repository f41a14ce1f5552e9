//! The client: each check is one line, `ok - ` or `not ok - `.

use nigh::{Channel, ClientTls, DescriptorsExt as _, FdLimits};
use nigh_testkit::service::proto::files_client::FilesClient;
use nigh_testkit::service::proto::{DownloadRequest, Payload};

use crate::Fault;
use crate::chat::chat;
use crate::content::{Made, contents, message};

async fn unary(client: &mut FilesClient<Channel>, files: &Made, count: u32) -> Result<(), Fault> {
    let mut request = tonic::Request::new(Payload::default());
    let (mut urls, mut expected) = (Vec::new(), Vec::new());
    for number in 0..count {
        let name = format!("rust {count} {number}");
        // Every other one by name: then it arrives without rights of its own.
        urls.push(match number % 2 {
            0 => request.descriptors().attach_inode(files.open(&name)?)?,
            _ => request.descriptors().attach_path(files.path(&name)?)?,
        });
        expected.push(format!("echo {name}"));
    }
    *request.get_mut() = message(&urls);
    let mut reply = client.swap(request).await?;
    let fds = reply.descriptors();
    // A file stays in the table, and each claim is a duplicate.
    contents(&fds, reply.get_ref()).await?;
    same(&contents(&fds, reply.get_ref()).await?, &expected)
}

async fn stream(client: &mut FilesClient<Channel>, count: u32) -> Result<(), Fault> {
    let mut reply = client.many(DownloadRequest { count, bytes: 0 }).await?;
    let fds = reply.descriptors();
    for number in 0..count {
        let message = reply.get_mut().message().await?.unwrap_or_default();
        let expected = [format!("download {number}")];
        same(&contents(&fds, &message).await?, &expected)?;
    }
    Ok(())
}

pub(crate) fn same(came: &[String], expected: &[String]) -> Result<(), Fault> {
    let differ = || format!("{came:?} came and not {expected:?}").into();
    (came == expected).then_some(()).ok_or_else(differ)
}

pub(crate) async fn call(socket: &str, tls: &[String]) -> Result<(), Fault> {
    let mut options = Channel::options().descriptors(FdLimits::with_inode_table());
    if let [authority] = tls {
        options = options.tls_on_unix(ClientTls::authority(&std::fs::read(authority)?)?);
    }
    let kind = if tls.is_empty() { "plain" } else { "tls" };
    let channel = options.connect(format!("unix:{socket}").as_str()).await?;
    let (mut client, files) = (FilesClient::new(channel), Made::new());
    for count in [1, 60, 2] {
        for (name, result) in [
            ("unary both ways", unary(&mut client, &files, count).await),
            ("server stream", stream(&mut client, count).await),
            ("both streams", chat(&mut client, &files, count).await),
        ] {
            let name = format!("rust client, {kind}: {name}, {count} descriptors");
            match result {
                Ok(()) => println!("ok - {name}"),
                Err(error) => println!("not ok - {name}: {error}"),
            }
        }
    }
    Ok(())
}
