//! What a real h2 server makes of it: every other header as sent, every authority valid, for long random connections.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::client::{Field, Request, bad_first, connection};
use crate::http2::io::AuthorityFixed;

/// What the server got of one request.
#[derive(Debug, PartialEq)]
struct Received {
    authority: Option<String>,
    path: String,
    fields: HeaderMap,
    trailers: Option<HeaderMap>,
}

fn map(fields: &[Field]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value, _) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    map
}

/// What it should get; nothing where the authority is empty.
fn expected(requests: &[Request]) -> Vec<Received> {
    let numbered = requests.iter().zip((1_u32..).step_by(2));
    let served = numbered.filter(|(request, _)| request.authority.as_deref() != Some(""));
    served
        .map(|(request, stream)| {
            let authority = request.authority.clone().map(|name| match name.as_str() {
                good if good.parse::<http::uri::Authority>().is_ok() => good.to_owned(),
                bad if bad.len() >= "localhost".len() => "localhost".to_owned(),
                _ => "x".to_owned(),
            });
            Received {
                authority,
                path: format!("/a.B/{}", stream % 7),
                fields: map(&request.fields),
                trailers: request.trailers.as_deref().map(map),
            }
        })
        .collect()
}

/// Gives `bytes` to an h2 server in writes of `step` bytes through a pipe as small. The clock stands still, so the
/// time-out is over exactly when nobody has anything left to do.
async fn serve(bytes: Vec<u8>, step: usize) -> Result<Vec<Received>, h2::Error> {
    let (client, server) = tokio::io::duplex(step);
    let (mut reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    tokio::spawn(async move {
        for piece in bytes.chunks(step) {
            writer.write_all(piece).await.unwrap();
        }
        // Open to the end: h2 drops requests that wait when the client is gone.
        std::future::pending::<()>().await;
    });
    let mut connection = h2::server::handshake(AuthorityFixed::new(server)).await?;
    let mut calls = Vec::new();
    while let Ok(Some(accepted)) = timeout(Duration::from_secs(1), connection.accept()).await {
        let (request, respond) = accepted?;
        calls.push(tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            while let Some(data) = body.data().await {
                assert_eq!(data.unwrap(), "hello");
            }
            let trailers = body.trailers().await.unwrap();
            drop(respond);
            Received {
                authority: head.uri.authority().map(|name| name.as_str().to_owned()),
                path: head.uri.path().to_owned(),
                fields: head.headers,
                trailers,
            }
        }));
    }
    let mut received = Vec::new();
    for call in calls {
        received.push(call.await.unwrap());
    }
    Ok(received)
}

proptest! {
    #![proptest_config(super::config(48))]

    #[test]
    fn a_real_h2_server_gets_every_header_as_sent_and_only_valid_authorities(
        requests in bad_first(),
        step in prop_oneof![1..40_usize, 1000..70_000_usize],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let received = runtime.block_on(serve(connection(&requests), step)).unwrap();
        let expected = expected(&requests);
        prop_assert_eq!(received.len(), expected.len());
        for (received, expected) in received.into_iter().zip(expected) {
            prop_assert_eq!(received, expected);
        }
    }
}
