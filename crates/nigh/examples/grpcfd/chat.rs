//! Files in the middle of streams: what the client says, and asks for.

use std::pin::pin;
use std::time::Duration;

use nigh::{Channel, Descriptors};
use nigh_testkit::service::proto::Payload;
use nigh_testkit::service::proto::files_client::FilesClient;
use tokio_stream::wrappers::ReceiverStream;

use crate::Fault;
use crate::client::same;
use crate::content::{Made, contents, message};

/// Files in the middle of a stream, a new one with each message, and each one's answer before the next.
pub(crate) async fn chat(
    client: &mut FilesClient<Channel>,
    files: &Made,
    count: u32,
) -> Result<(), Fault> {
    let fds = Descriptors::new();
    let (say, said) = tokio::sync::mpsc::channel(1);
    let named = |number: u32| -> Result<_, Fault> {
        let name = format!("rust chat {count} {number}");
        let url = match number % 2 {
            0 => fds.attach_inode(files.open(&name)?)?,
            _ => fds.attach_path(files.path(&name)?)?,
        };
        Ok((name, message(&[url])))
    };
    // A server in Go begins its answer with the first message that it sends, so the first one goes ahead.
    let (mut name, first) = named(0)?;
    say.send(first).await?;
    let mut request = tonic::Request::new(ReceiverStream::new(said));
    request.extensions_mut().insert(fds.clone());
    let mut answers = client.chat(request).await?.into_inner();
    for number in 1..=count {
        let answer = answers.message().await?.unwrap_or_default();
        // grpcfd's message may overtake its file, which then comes with whatever the server writes next: it is asked.
        let mut asked = 0;
        let mut waiting = pin!(contents(&fds, &answer));
        let came = loop {
            match tokio::time::timeout(Duration::from_millis(20), &mut waiting).await {
                Ok(came) => break came?,
                Err(_) => say.send(Payload::default()).await?,
            }
            asked += 1;
        };
        same(&came, &[format!("echo {name}")])?;
        for _ in 0..asked {
            answers.message().await?;
        }
        if number < count {
            let next = named(number)?;
            name = next.0;
            say.send(next.1).await?;
        }
    }
    Ok(())
}
