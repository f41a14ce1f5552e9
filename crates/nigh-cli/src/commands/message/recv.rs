//! `nigh recv`: prints the records that come, from a server or from callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nigh_socket::{
    ConnectOptions, Connection, Front, Limits, Listener, Policy, Protocol, Refused, Serving,
    SocketKind, UnixDatagram,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::lines::Lines;
use super::show::{Printer, Record};
use super::{MessageError, announce, bind, connected};
use crate::cli::{RecvArgs, ShowArgs};
use crate::commands::serve::stop_signals;
use crate::error::Failure;
use crate::output::{self, When};
use crate::pipe::{Piece, Pipe};

/// Time to connect when none is given.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Records that wait to be printed.
const RECORDS_MAX: usize = 8;
/// Callers at once: each may hold a packet of 4 MiB, or a line.
pub(super) const CALLERS_MAX: usize = 32;

/// Runs `nigh recv`.
pub(crate) async fn run(args: RecvArgs, when: When) -> Result<(), Failure> {
    // Before anybody is told that we are ready.
    let (stop, _cut) = stop_signals()?;
    let (events, queue) = mpsc::channel(RECORDS_MAX);
    let printing = print(&args, queue, when);
    if args.connect {
        let wait = args.timeout.unwrap_or(CONNECT_TIME);
        let options = ConnectOptions::default().timeout(wait).wait(args.wait);
        let pipe = connected(&args.place, &options, true).await?;
        ask_for_senders(&pipe, args.show)?;
        return receiving(pipe, args.show, events, printing, stop).await;
    }
    let listener = bind(&args.place, &args.on, args.show.creds)?;
    announce(&args.place, &listener, args.show.json, true, when)?;
    if args.place.kind == SocketKind::Datagram {
        let pipe = Pipe::Datagram(Box::new(UnixDatagram::bound(listener)?));
        return receiving(pipe, args.show, events, printing, stop).await;
    }
    let inlet = Inlet {
        kind: listener.kind(),
        show: args.show,
        events,
        callers: Arc::default(),
    };
    let policy = args.on.allow.clone().unwrap_or_else(Policy::same_user);
    let front = front(listener, policy, inlet);
    // The front ends before we do, so that its socket's name is given back.
    let (enough, told) = oneshot::channel::<()>();
    let printing = async {
        let printed = printing.await;
        drop(enough);
        printed
    };
    let serving = front.run(async {
        tokio::select! {
            _ = stop => {}
            _ = told => {}
        }
    });
    let (printed, served) = tokio::join!(printing, serving);
    served.map_err(nigh::ServerError::from)?;
    printed
}

pub(super) fn ask_for_senders(pipe: &Pipe, show: ShowArgs) -> Result<(), Failure> {
    if show.creds {
        match pipe {
            Pipe::Unix(stream) => stream.set_pass_credentials(true)?,
            Pipe::Packet(packets) => packets.set_pass_credentials(true)?,
            Pipe::Datagram(datagrams) => datagrams.set_pass_credentials(true)?,
            Pipe::Tcp(_) => {}
        }
    }
    Ok(())
}

/// Receives from one socket until it ends, enough was printed, or a signal comes.
async fn receiving(
    pipe: Pipe,
    show: ShowArgs,
    events: mpsc::Sender<Event>,
    printing: impl Future<Output = Result<(), Failure>>,
    stop: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let reading = async {
        pass_on(&pipe, show, None, &events).await;
        drop(events);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        _ = stop => Ok(()),
        printed = printing => printed,
        () = reading => Ok(()),
    }
}

fn front(listener: Listener, policy: Policy, inlet: Inlet) -> Front {
    let mut limits = Limits::default();
    limits.connections_max = CALLERS_MAX;
    limits.connections_per_uid_max = CALLERS_MAX;
    limits.drain_time = Duration::from_millis(100);
    let mut front = Front::new(limits, Arc::default());
    front.listen(listener, policy, Arc::new(inlet));
    front
}

/// What a caller did.
#[derive(Debug)]
pub(super) enum Event {
    Record(Box<Record>),
    /// It left, or was cut off for the reason given.
    Left(Option<MessageError>),
}

/// Prints until enough has come.
async fn print(
    args: &RecvArgs,
    mut queue: mpsc::Receiver<Event>,
    when: When,
) -> Result<(), Failure> {
    let mut printer = Printer::new(args.show, when);
    loop {
        if args.count.is_some_and(|count| printer.printed() >= count) {
            return Ok(());
        }
        let event = match args.timeout {
            None => queue.recv().await,
            Some(waited) => {
                timeout(waited, queue.recv())
                    .await
                    .map_err(|_| MessageError::TimedOut {
                        what: "received",
                        waited,
                    })?
            }
        };
        match event {
            Some(Event::Record(record)) => printer.print(&record)?,
            Some(Event::Left(error)) if args.connect || args.once => {
                if let Some(error) = error {
                    return Err(error.into());
                }
                return match args.count {
                    Some(wanted) => Err(MessageError::Short {
                        got: printer.printed(),
                        wanted,
                    }
                    .into()),
                    None => Ok(()),
                };
            }
            Some(Event::Left(Some(error))) => {
                output::note(
                    when,
                    &format!("a caller: {}", Failure::from(error).message()),
                );
            }
            Some(Event::Left(None)) => {}
            // Whoever feeds the queue says first that it ends.
            None => return Ok(()),
        }
    }
}

/// The protocol of a listener that only receives.
#[derive(Debug)]
struct Inlet {
    kind: SocketKind,
    show: ShowArgs,
    events: mpsc::Sender<Event>,
    callers: Arc<AtomicU64>,
}

impl Protocol for Inlet {
    fn kind(&self) -> SocketKind {
        self.kind
    }

    fn takes_descriptors(&self) -> Option<bool> {
        Some(true)
    }

    fn serve(&self, connection: Connection) -> Serving {
        let (events, show) = (self.events.clone(), self.show);
        let caller = self.callers.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            let (transport, _, _, hold) = connection.into_parts();
            if let Ok(pipe) = Pipe::try_from(transport) {
                pass_on(&pipe, show, Some(caller), &events).await;
            }
            drop(hold);
        })
    }

    fn refuse(&self, _: Refused) -> Serving {
        // The front has logged it, and a plain socket has no words for it.
        Box::pin(async {})
    }
}

/// Receives until the end, and says that it is.
async fn pass_on(pipe: &Pipe, show: ShowArgs, caller: Option<u64>, events: &mpsc::Sender<Event>) {
    let mut reader = Reader::new(pipe, show);
    let error = loop {
        match reader.next().await {
            Ok(Some(mut record)) => {
                record.caller = caller;
                // Nobody prints any more when enough has come.
                if events.send(Event::Record(Box::new(record))).await.is_err() {
                    return;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let _ = events.send(Event::Left(error)).await;
}

/// Records out of a socket of any kind.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pipe: &'a Pipe,
    buffer: Vec<u8>,
    lines: Option<Lines<std::os::fd::OwnedFd>>,
    ready: std::collections::VecDeque<Record>,
    ended: bool,
    max: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(pipe: &'a Pipe, show: ShowArgs) -> Self {
        let is_stream = matches!(pipe, Pipe::Unix(_) | Pipe::Tcp(_));
        Self {
            pipe,
            buffer: pipe.buffer(),
            lines: (is_stream && !show.hex).then(|| Lines::new(show.max)),
            ready: std::collections::VecDeque::new(),
            ended: false,
            max: show.max,
        }
    }

    /// The next record; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Record>, MessageError> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            if self.ended {
                return Ok(None);
            }
            let piece = self.pipe.recv(&mut self.buffer).await;
            match piece.map_err(|error| MessageError::of(error, 0))? {
                Some(piece) => self.take(piece)?,
                None => {
                    self.ended = true;
                    let rest = self.lines.as_mut().and_then(Lines::rest);
                    self.ready.extend(rest.map(|(bytes, fds)| Record {
                        fds,
                        ..Record::new(bytes, Piece::bare(0))
                    }));
                }
            }
        }
    }

    fn take(&mut self, mut piece: Piece) -> Result<(), MessageError> {
        let bytes = &self.buffer[..piece.length];
        let Some(lines) = &mut self.lines else {
            self.ready.push_back(Record::new(bytes.to_vec(), piece));
            return Ok(());
        };
        let max = self.max;
        let fds = std::mem::take(&mut piece.fds);
        let whole = lines
            .feed(bytes, fds)
            .map_err(|_| MessageError::Long { max })?;
        self.ready
            .extend(whole.into_iter().map(|(bytes, fds)| Record {
                fds,
                sender: piece.sender.clone(),
                fds_lost: piece.fds_lost,
                ..Record::new(bytes, Piece::bare(0))
            }));
        Ok(())
    }
}
