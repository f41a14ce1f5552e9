//! The status socket of a supervisor: whoever may connects, and reads one JSON object.

use std::time::Duration;

use nigh_socket::introspect::{self, Name};
use nigh_socket::{
    AcceptError, Acceptor, Address, ConnectOptions, Incoming, Listener, Policy, Stream, Transport,
    connect,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::RunError;
use crate::error::Failure;

/// The longest status that is read, in bytes.
const STATUS_BYTES_MAX: u64 = 1 << 20;

/// Who asks at the same time; more are let go at once.
const ASKING_MAX: usize = 16;

/// How long one who asks has to read.
const ASKING_TIME: Duration = Duration::from_secs(5);

/// Answers who asks.
#[derive(Debug)]
pub(crate) struct StatusSocket {
    acceptor: Acceptor,
    policy: Policy,
    answering: JoinSet<()>,
}

/// Listens for this user's questions.
pub(crate) fn serve_status(address: &Address) -> Result<StatusSocket, Failure> {
    let listener = Listener::options().bind(address)?;
    Ok(StatusSocket {
        acceptor: Acceptor::new(listener)?,
        policy: Policy::same_user(),
        answering: JoinSet::new(),
    })
}

impl StatusSocket {
    /// The next who asks. Cancel safe.
    pub(super) async fn asked(&mut self) -> Result<Incoming, AcceptError> {
        loop {
            tokio::select! {
                incoming = self.acceptor.accept() => return incoming,
                Some(_) = self.answering.join_next() => {}
            }
        }
    }

    pub(super) fn answer(&mut self, incoming: Incoming, status: &Value) {
        if self.answering.len() >= ASKING_MAX {
            return;
        }
        // Who may not ask is told nothing.
        let Ok(connection) = incoming.admit(&self.policy) else {
            return;
        };
        let (transport, _, _, hold) = connection.into_parts();
        let text = format!("{status}\n");
        self.answering.spawn(async move {
            let _hold = hold;
            if let Transport::Stream(mut stream) = transport {
                let telling = async {
                    // Who left does not want to know.
                    let _ = stream.write_all(text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                };
                let _ = tokio::time::timeout(ASKING_TIME, telling).await;
            }
        });
    }
}

/// The status of the supervisor at that address: this user's or root's.
pub(crate) async fn ask(address: &Address) -> Result<Value, Failure> {
    let owner = Policy::same_user().or(Policy::uid(0));
    let options = ConnectOptions::default().server(owner);
    let (stream, _) = connect(address, &options).await?;
    let mut text = String::new();
    let reading = async {
        match stream {
            Stream::Unix(stream) => {
                stream
                    .take(STATUS_BYTES_MAX)
                    .read_to_string(&mut text)
                    .await
            }
            Stream::Tcp(stream) => {
                stream
                    .take(STATUS_BYTES_MAX)
                    .read_to_string(&mut text)
                    .await
            }
        }
    };
    let nonsense = || RunError::Nonsense {
        address: address.to_string(),
    };
    match tokio::time::timeout(ASKING_TIME, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(nonsense().into()),
    };
    Ok(serde_json::from_str(&text).map_err(|_| nonsense())?)
}

/// The supervisors of this user that have abstract names.
pub(crate) fn all() -> Result<Vec<Address>, Failure> {
    let user = rustix::process::geteuid().as_raw();
    let prefix = format!("nigh-run/{user}/");
    let mut found = Vec::new();
    for socket in introspect::sockets()? {
        if let (introspect::State::Listening, Name::Abstract(name)) = (socket.state, socket.name)
            && name.starts_with(prefix.as_bytes())
        {
            found.push(Address::Abstract(name));
        }
    }
    Ok(found)
}
