//! `nigh send`: records to a server, or to the first who connects, and its replies.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use nigh_socket::{Acceptor, ConnectOptions, Policy, SocketKind};
use tokio::time::{sleep, timeout};

use super::input::{Records, descriptors};
use super::recv::Reader;
use super::show::Printer;
use super::{MessageError, announce, bind, connected};
use crate::cli::SendArgs;
use crate::error::Failure;
use crate::output::When;
use crate::pipe::Pipe;

/// Runs `nigh send`.
pub(crate) async fn run(args: SendArgs, when: When) -> Result<(), Failure> {
    let fds = descriptors(&args)?;
    let pipe = match args.listen {
        true => first_caller(&args, when).await?,
        false => {
            let options = ConnectOptions::default()
                .timeout(args.timeout)
                .wait(args.wait);
            connected(&args.place, &options, args.replies > 0).await?
        }
    };
    if args.show.creds {
        super::recv::ask_for_senders(&pipe, args.show)?;
    }
    let sending = send_all(&args, &pipe, fds);
    if args.replies > 0 {
        return replies(&args, &pipe, sending, when).await;
    }
    sending.await?;
    if args.place.kind != SocketKind::Datagram {
        pipe.shutdown(Shutdown::Write);
    }
    Ok(())
}

async fn send_all(args: &SendArgs, pipe: &Pipe, fds: Vec<OwnedFd>) -> Result<(), MessageError> {
    let is_stream = args.place.kind == SocketKind::Stream;
    let mut records = Records::of(args, is_stream);
    let mut fds = fds;
    let mut number = 0;
    while let Some(record) = records.next().await? {
        number += 1;
        if record.is_empty() && is_stream {
            continue;
        }
        let sending = pipe.send(&record, &fds);
        within(args.timeout, "sent", sending)
            .await?
            .map_err(|error| MessageError::of(error, number))?;
        fds.clear();
    }
    match fds.is_empty() {
        true => Ok(()),
        false => Err(MessageError::Usage(
            "there was no record for the descriptors to travel with",
        )),
    }
}

/// Receives while it sends: a server that answers before all has come must not wait for us.
async fn replies(
    args: &SendArgs,
    pipe: &Pipe,
    sending: impl Future<Output = Result<(), MessageError>>,
    when: When,
) -> Result<(), Failure> {
    let mut printer = Printer::new(args.show, when);
    let mut reader = Reader::new(pipe, args.show);
    let mut sending = pin!(sending);
    let mut is_sent = false;
    while printer.printed() < args.replies || !is_sent {
        let record = tokio::select! {
            sent = &mut sending, if !is_sent => {
                sent?;
                is_sent = true;
                continue;
            }
            record = reader.next() => record?,
            () = sleep(args.timeout), if is_sent => {
                let waited = args.timeout;
                return Err(MessageError::TimedOut { what: "received", waited }.into());
            }
        };
        match record {
            Some(record) => printer.print(&record)?,
            None => {
                let (got, wanted) = (printer.printed(), args.replies);
                return Err(MessageError::Short { got, wanted }.into());
            }
        }
    }
    Ok(())
}

async fn within<T>(
    waited: Duration,
    what: &'static str,
    doing: impl Future<Output = T>,
) -> Result<T, MessageError> {
    timeout(waited, doing)
        .await
        .map_err(|_| MessageError::TimedOut { what, waited })
}

/// Waits for whoever may connect.
async fn first_caller(args: &SendArgs, when: When) -> Result<Pipe, Failure> {
    if args.place.kind == SocketKind::Datagram {
        return Err(MessageError::Usage(
            "--listen: a datagram socket that is bound has nobody to send to",
        )
        .into());
    }
    let listener = bind(&args.place, &args.on, args.show.creds)?;
    announce(&args.place, &listener, args.show.json, true, when)?;
    let policy = args.on.allow.clone().unwrap_or_else(Policy::same_user);
    let mut acceptor = Acceptor::new(listener)?;
    loop {
        let incoming = acceptor.accept().await.map_err(std::io::Error::other)?;
        match incoming.admit(&policy) {
            Ok(connection) => {
                let (transport, ..) = connection.into_parts();
                if let Ok(pipe) = Pipe::try_from(transport) {
                    return Ok(pipe);
                }
            }
            Err(refused) => {
                crate::output::note(
                    when,
                    &format!("refused {}: {}", refused.peer, refused.refusal),
                );
            }
        }
    }
}
