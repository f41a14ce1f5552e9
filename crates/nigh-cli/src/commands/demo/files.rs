//! The row about open files: one goes to the server inside a call, which describes it, and comes back.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use nigh::{Channel, Descriptors, FdLimits, InodeUrl};
use nigh_socket::MemoryFile;
use tonic::{Request, Status};

use super::Done;
use super::rows::summary;
use super::stage::Stage;
use crate::diag::pb::SwapRequest;
use crate::diag::pb::diag_client::DiagClient;
use crate::error::Failure;

const CONTENT: &[u8] = b"what no path leads to";

/// A sealed memory file, which has no name that the server could open.
pub(super) async fn both_ways(stage: &Stage) -> Result<Done, Failure> {
    let mut memory = MemoryFile::create("nigh-demo")?;
    memory.write_all(CONTENT)?;
    let memory = memory.seal()?;
    let options = Channel::options().descriptors(FdLimits::default());
    let mut client = DiagClient::new(options.connect(stage.address().clone()).await?);
    let start = Instant::now();
    let fds = Descriptors::new();
    let there = SwapRequest {
        fds: vec![fds.attach(&memory)?.into()],
    };
    let mut request = Request::new(tokio_stream::iter([there]));
    request.extensions_mut().insert(fds.clone());
    let mut answers = client.swap(request).await?.into_inner();
    let answer = answers.message().await?.unwrap_or_default();
    let [back] = answer.fds.as_slice() else {
        return Err(Status::internal("it did not come back").into());
    };
    let back = File::from(fds.take(*back).map_err(Status::from)?);
    let time = start.elapsed();
    let is_same = InodeUrl::of(&memory)? == InodeUrl::of(&back)?;
    if !is_same || content(&back)? != CONTENT {
        return Err(Status::internal("another file came back").into());
    }
    let seen = answer.came.first().map(|info| {
        let sealed = if info.sealed { "sealed" } else { "not sealed" };
        format!("{}, {sealed}, {} bytes", info.kind, info.size)
    });
    Ok(Done {
        caller: summary(client).await?,
        result: format!("{}; the same came back", seen.unwrap_or_default()),
        time,
    })
}

/// What is in the file, wherever its offset is by now.
fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; CONTENT.len()];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}
