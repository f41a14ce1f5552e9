//! `nigh echo`: sends back whatever comes, on a socket of any kind, until it is told to stop.

use std::io::IoSlice;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nigh_socket::{
    Connection, Front, Limits, Policy, Protocol, RecvError, Refused, SendError, Serving,
    SocketKind, UnixDatagram,
};
use tokio::time::timeout;

use super::recv::CALLERS_MAX;
use super::{MessageError, announce, bind};
use crate::cli::EchoArgs;
use crate::commands::serve::stop_signals;
use crate::error::Failure;
use crate::output::{self, When};
use crate::pipe::{Pipe, PipeError};

/// How long a sender may leave its answer unread while others wait for theirs.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Longest datagram that any send buffer takes: 4 MiB and a little.
const DATAGRAM_BYTES_MAX: usize = (4 << 20) + (128 << 10);

/// Runs `nigh echo`.
pub(crate) async fn run(args: EchoArgs, when: When) -> Result<(), Failure> {
    // Before anybody is told that we are ready.
    let (stop, _cut) = stop_signals()?;
    let listener = bind(&args.place, &args.on, false)?;
    let kind = listener.kind();
    announce(&args.place, &listener, args.json, false, when)?;
    if kind == SocketKind::Datagram {
        let socket = UnixDatagram::bound(listener)?;
        return tokio::select! {
            _ = stop => Ok(()),
            ended = datagrams(&socket, when) => ended.map_err(Failure::from),
        };
    }
    let policy = args.on.allow.clone().unwrap_or_else(Policy::same_user);
    let mut limits = Limits::default();
    limits.connections_max = CALLERS_MAX;
    limits.connections_per_uid_max = CALLERS_MAX;
    limits.drain_time = Duration::from_millis(100);
    let mut front = Front::new(limits, Arc::default());
    front.listen(listener, policy, Arc::new(Echo { kind, when }));
    let ended = front.run(async {
        let _ = stop.await;
    });
    ended.await.map_err(nigh::ServerError::from)?;
    Ok(())
}

#[derive(Debug)]
struct Echo {
    kind: SocketKind,
    when: When,
}

impl Protocol for Echo {
    fn kind(&self) -> SocketKind {
        self.kind
    }

    fn takes_descriptors(&self) -> Option<bool> {
        Some(true)
    }

    fn serve(&self, connection: Connection) -> Serving {
        let when = self.when;
        Box::pin(async move {
            let (transport, peer, _, hold) = connection.into_parts();
            if let Ok(pipe) = Pipe::try_from(transport)
                && let Err(error) = answer(&pipe).await
            {
                output::note(when, &format!("{peer}: {error}"));
            }
            drop(hold);
        })
    }

    fn refuse(&self, _: Refused) -> Serving {
        // The front has logged it, and a plain socket has no words for it.
        Box::pin(async {})
    }
}

async fn answer(pipe: &Pipe) -> Result<(), PipeError> {
    let mut buffer = pipe.buffer();
    while let Some(piece) = pipe.recv(&mut buffer).await? {
        pipe.send(&buffer[..piece.length], &piece.fds).await?;
    }
    pipe.shutdown(Shutdown::Write);
    Ok(())
}

async fn datagrams(socket: &UnixDatagram, when: When) -> Result<(), MessageError> {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let datagram = match socket.recv(&mut buffer).await {
            Ok(datagram) => datagram,
            Err(error @ RecvError::System(_)) => return Err(MessageError::Recv(error)),
            // It is gone; the next one is whole again.
            Err(error) => {
                output::note(when, &error.to_string());
                continue;
            }
        };
        let Some(from) = datagram.from else {
            output::note(
                when,
                "a datagram from a socket without a name: nobody to answer",
            );
            continue;
        };
        let slices = [IoSlice::new(&buffer[..datagram.length])];
        let fds: Vec<BorrowedFd<'_>> = datagram.fds.iter().map(|fd| fd.as_fd()).collect();
        let answering = async {
            match socket.send_to(&slices, &fds, &from).await {
                Err(SendError::TooLong { length, .. }) => {
                    // Twice: the kernel counts what it needs for itself, too.
                    socket
                        .set_send_buffer(length * 2)
                        .map_err(SendError::System)?;
                    socket.send_to(&slices, &fds, &from).await
                }
                sent => sent,
            }
        };
        let why = match timeout(ANSWER_TIME, answering).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not read its answers".to_owned(),
        };
        output::note(when, &format!("{from} was not answered: {why}"));
    }
}
