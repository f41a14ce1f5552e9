//! A wire of its own, to prove that one is added by one module: `TOY path\n` up, status and text down.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tonic::body::Body;

use super::{Claim, Served, Session, Wire};
use crate::io::{Io, Socket, Transport};

#[derive(Debug)]
struct Toy;

impl Wire for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn claim(&self, first: &[u8]) -> Claim {
        match (first.starts_with(b"TOY "), b"TOY ".starts_with(first)) {
            (true, _) => Claim::Mine,
            (false, true) => Claim::Undecided,
            (false, false) => Claim::NotMine,
        }
    }

    fn serve(&self, io: Io, session: Session) -> Served {
        Box::pin(async move {
            let mut io = BufReader::new(io);
            let mut line = String::new();
            while io.read_line(&mut line).await? > 0 {
                let path = line.trim_end().trim_start_matches("TOY ").to_owned();
                let request = Request::post(path).body(Body::empty()).unwrap();
                let (head, body) = session.calls.call(request).await.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let answer = format!("{} {}", head.status, String::from_utf8_lossy(&body));
                io.write_all(answer.as_bytes()).await?;
                line.clear();
            }
            Ok(())
        })
    }
}

/// Speaks `words` to a server that knows the toy wire beside the real ones, as a caller of `standing`.
async fn conversation(standing: crate::server::Standing, words: &str) -> String {
    let mut wires = super::all();
    wires.insert(0, Arc::new(Toy));
    let (ours, mut theirs) = nigh_socket::UnixStream::pair().unwrap();
    theirs.write_all(words.as_bytes()).await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut io = Io::new(
        Transport::Plain(Socket::Bare(nigh_socket::Stream::Unix(ours))),
        None,
    );
    let time = std::time::Duration::from_secs(9);
    let wire = super::recognise(&mut io, &wires, time)
        .await
        .unwrap()
        .unwrap();
    let calls = crate::server::calls_for_tests(standing);
    let session = Session {
        calls,
        limits: Arc::default(),
        drain: None,
        hold: None,
    };
    wire.serve(io, session).await.unwrap();
    let mut answer = String::new();
    theirs.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_wire_is_one_module() {
    let said = conversation(crate::server::Standing::Admitted, "TOY /hello\nTOY /who\n").await;
    assert_eq!(
        said,
        "200 OK called /hello by 127.0.0.1:9\n200 OK called /who by 127.0.0.1:9\n"
    );
}

#[tokio::test]
async fn a_refused_caller_is_told_over_any_wire() {
    let standing = crate::server::Standing::Refused {
        status: tonic::Status::permission_denied("no"),
        is_unseen: false,
        answered: Arc::default(),
    };
    assert_eq!(
        conversation(standing, "TOY /hello\n").await,
        "403 Forbidden no\n"
    );
}
