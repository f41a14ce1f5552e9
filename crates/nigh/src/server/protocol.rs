//! Serves one stream connection: TLS if the listener has it, then whichever wire the caller speaks.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use nigh_socket::{Connection, DrainReason, Hold, Peer, Protocol, Refused, Serving, Stream};
use tokio::sync::Notify;
use tonic::Status;

use super::calls::{Calls, Routes, Standing, draining};
use super::connect_info;
use crate::fd::{FdSocket, Incapable, Link, Receivers, Side, Terms};
use crate::io::{Io, Socket, Transport};
use crate::limits::Limits;
use crate::peer::Arrival;
use crate::tls::ServerTls;
use crate::wire::{self, BETWEEN_REQUESTS, Session, Wire, WireError};

/// The protocol of every stream listener.
pub(crate) struct Streams {
    pub(crate) routes: Arc<Routes>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) wires: Arc<[Arc<dyn Wire>]>,
    pub(crate) tls: Option<ServerTls>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// One caller, admitted or not.
struct Caller {
    stream: Stream,
    peer: Peer,
    listener: Arc<nigh_socket::Address>,
    standing: Standing,
    hold: Option<Hold>,
    /// Another process has served it, and answered its last request over HTTP/1.1.
    is_between: bool,
}

impl Protocol for Streams {
    fn takes_descriptors(&self) -> Option<bool> {
        Some(!self.routes.receivers.is_empty())
    }

    fn serve(&self, connection: Connection) -> Serving {
        self.admitted(connection, false)
    }

    fn resume(&self, connection: Connection, state: &[u8]) -> Option<Serving> {
        match state {
            // Nothing had been read from it.
            [] => Some(self.admitted(connection, false)),
            BETWEEN_REQUESTS => Some(self.admitted(connection, true)),
            _ => None,
        }
    }

    fn refuse(&self, refused: Refused) -> Serving {
        let Refused {
            transport,
            peer,
            listener,
            refusal,
        } = refused;
        let Ok(stream) = transport.into_stream() else {
            return nothing();
        };
        let status = match &refusal {
            nigh_socket::Refusal::Draining => draining(),
            other if other.is_retryable() => {
                Status::unavailable("the server has no connection to spare; try again")
            }
            _ => Status::permission_denied("the caller may not use this socket"),
        };
        let is_unseen = matches!(refusal, nigh_socket::Refusal::Draining);
        let standing = Standing::Refused {
            status,
            is_unseen,
            answered: Arc::new(Notify::new()),
        };
        self.spawnable(Caller {
            stream,
            peer,
            listener,
            standing,
            hold: None,
            is_between: false,
        })
    }
}

/// For packets, which the front lets reach no protocol of this kind: they are closed.
fn nothing() -> Serving {
    Box::pin(std::future::ready(()))
}

impl Streams {
    fn admitted(&self, connection: Connection, is_between: bool) -> Serving {
        let (transport, peer, listener, hold) = connection.into_parts();
        let Ok(stream) = transport.into_stream() else {
            return nothing();
        };
        let standing = Standing::Admitted;
        self.spawnable(Caller {
            stream,
            peer,
            listener,
            standing,
            hold: Some(hold),
            is_between,
        })
    }

    fn spawnable(&self, caller: Caller) -> Serving {
        let routes = Arc::clone(&self.routes);
        let limits = Arc::clone(&self.limits);
        let wires = Arc::clone(&self.wires);
        let tls = self.tls.clone();
        Box::pin(async move {
            let (peer, listener) = (caller.peer.clone(), Arc::clone(&caller.listener));
            let journal = Arc::clone(&routes.journal);
            match serve(caller, routes, limits, &wires, tls).await {
                Ok(()) => {}
                // Callers that vanish are everyday life; callers that speak in tongues are not.
                Err(error @ (WireError::Io(_) | WireError::Http(_))) => {
                    tracing::debug!("connection of {peer} on {listener}: {error}");
                }
                Err(error) => {
                    journal.warn(format_args!("connection of {peer} on {listener}: {error}"));
                }
            }
        })
    }
}

async fn serve(
    caller: Caller,
    routes: Arc<Routes>,
    limits: Arc<Limits>,
    wires: &[Arc<dyn Wire>],
    tls: Option<ServerTls>,
) -> Result<(), WireError> {
    let Caller {
        stream,
        mut peer,
        listener,
        standing,
        mut hold,
        is_between,
    } = caller;
    let greeting_time = limits.connections.greeting_time;
    if let Some(hold) = &mut hold {
        let kind = match is_between {
            false => Quiet::New,
            true => Quiet::BetweenRequests,
        };
        if let Silence::Elsewhere = silence(&stream, hold, &limits, (kind, tls.is_some())).await? {
            return Ok(());
        }
    }
    let refused = matches!(standing, Standing::Refused { .. });
    // No handler will ask for a refused caller, and it costs a descriptor for a moment.
    let mut extensions = match refused {
        true => http::Extensions::new(),
        false => connect_info::of(&stream, &listener, &routes.journal),
    };
    let (socket, link) = match refused {
        true => (Socket::Bare(stream), None),
        false => with_fds(
            stream,
            &routes.receivers,
            &limits,
            hold.as_ref(),
            tls.is_some(),
        ),
    };
    let no_descriptors = why_none(&peer, tls.is_some());
    let transport = match tls {
        None => Transport::Plain(socket),
        Some(tls) => shake_hands(&tls, socket, greeting_time, &mut peer).await?,
    };
    let allowance = refused.then_some(limits.connections.refusal_bytes_max);
    let mut io = Io::new(transport, allowance);
    let hold = hold.map(Arc::new);
    let drain = hold.as_ref().and_then(|hold| hold.drain());
    let Some(wire) = begin(&mut io, wires, &limits, drain.clone()).await? else {
        return Ok(());
    };
    extensions.insert(Arrival {
        listener,
        wire: wire.name(),
        no_descriptors,
    });
    let calls = Calls::new(routes, peer, extensions, standing)
        .linked(link)
        .under(drain.clone());
    let served = wire
        .serve(
            io,
            Session {
                calls,
                limits,
                drain,
                hold: hold.clone(),
            },
        )
        .await;
    // The quota is charged until the last byte is out.
    drop(hold);
    served
}

async fn shake_hands(
    tls: &ServerTls,
    socket: Socket,
    time: Duration,
    peer: &mut Peer,
) -> Result<Transport, WireError> {
    let handshake = tokio::time::timeout(time, tls.accept(socket));
    let stream = handshake.await.map_err(|_| WireError::Silent(time))??;
    if let Peer::Remote(remote) = &*peer {
        *peer = Peer::tls(remote.address(), crate::tls::certificate(&stream));
    }
    Ok(Transport::ServerTls(Box::new(stream)))
}

/// Which caller is silent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quiet {
    New,
    /// Of HTTP/1.1; idle it may be for as long as it might have been before.
    BetweenRequests,
}

/// How a caller's silence ended.
enum Silence {
    /// It speaks, or stays with this process whatever it does.
    Over,
    /// A successor has it, or it was idle for too long.
    Elsewhere,
}

/// Waits for the first byte. Who has not sent any when a successor takes over goes there: nothing of it is here.
async fn silence(
    stream: &Stream,
    hold: &mut Hold,
    limits: &Limits,
    (quiet, is_tls): (Quiet, bool),
) -> Result<Silence, WireError> {
    let (time, state) = match quiet {
        Quiet::New => (limits.connections.greeting_time, &[][..]),
        Quiet::BetweenRequests => (limits.http1.head_time, BETWEEN_REQUESTS),
    };
    let until = tokio::time::sleep(time);
    let mut until = std::pin::pin!(until);
    let mut drain = hold.drain();
    while let Some(begins) = &mut drain {
        tokio::select! {
            biased;
            readable = stream.readable() => {
                readable?;
                return Ok(Silence::Over);
            }
            () = &mut until => return match quiet {
                Quiet::New => Err(WireError::Silent(time)),
                Quiet::BetweenRequests => Ok(Silence::Elsewhere),
            },
            _ = begins.begun() => {}
        }
        if begins.reason() != Some(DrainReason::Replaced) {
            // What has come by now is told so; what comes later fails at the caller, for certain.
            if let Some(unix) = stream.as_unix().filter(|_| !is_tls) {
                unix.shut(Shutdown::Read)?;
            }
            break;
        }
        if hold.pass_on(stream, state).await {
            return Ok(Silence::Elsewhere);
        }
        // The successor would not have it, or died: then there is a new signal.
        drain = hold.renew_drain().filter(|drain| !drain.has_begun());
    }
    Ok(Silence::Over)
}

/// Why calls of this peer carry no descriptors, where they carry none.
fn why_none(peer: &Peer, tls: bool) -> Incapable {
    match (peer, tls) {
        (Peer::Local(_), false) => Incapable::NotNigh,
        (Peer::Local(_), true) => Incapable::Tls,
        _ => Incapable::NotLocal,
    }
}

/// Makes the connection ready for descriptors, where it can carry any.
fn with_fds(
    stream: Stream,
    receivers: &Receivers,
    limits: &Limits,
    hold: Option<&Hold>,
    tls: bool,
) -> (Socket, Option<Arc<Link>>) {
    let together = receivers.together();
    let stream = match stream {
        // TLS hides where frames begin; only grpcfd's way works inside it.
        Stream::Unix(stream) if !tls || together.inode_table => stream,
        other => return (Socket::Bare(other), None),
    };
    let terms = Terms {
        accepts: !receivers.is_empty(),
        limits: together,
        calls_max: limits.http2.concurrent_streams_max,
        user: hold.and_then(Hold::descriptors),
    };
    let link = Link::new(Side::Server, terms);
    if tls {
        link.is_foreign(Incapable::Tls);
    }
    let socket = FdSocket::new(stream, Arc::clone(&link), tls);
    (Socket::WithFds(Box::new(socket)), Some(link))
}

/// Finds the wire; a caller that has not spoken when the server stops is let go. One that has not when the server was
/// replaced may have its first call on the way already.
async fn begin(
    io: &mut Io,
    wires: &[Arc<dyn Wire>],
    limits: &Limits,
    drain: Option<nigh_socket::Drain>,
) -> Result<Option<Arc<dyn Wire>>, WireError> {
    let recognised = wire::recognise(io, wires, limits.connections.greeting_time);
    let found = match drain {
        None => recognised.await,
        Some(mut drain) => tokio::select! {
            biased;
            found = recognised => found,
            () = drain.stopped() => Ok(None),
        },
    };
    if matches!(found, Err(WireError::Unrecognised)) {
        io.reject().await?;
    }
    found
}
