//! Carries a connection through: what comes is looked at, said, and passed on as it came.
//!
//! Trap: a call is said before it is passed on; otherwise its answer could be seen first.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nigh_socket::{
    Address, ConnectError, ConnectOptions, Connection, Peer, Protocol, Refused, Serving,
    SocketKind, Transport, connect, connect_packet,
};
use prost_reflect::DescriptorPool;
use tokio::sync::{Mutex, Notify};

use super::decode::{Bytes, Note, Packets, Side};
use super::log::{Log, Place};
use super::placed;
use super::unshare::Unshare;
use crate::pipe::{Pipe, PipeError};

const WIRE: &str = "tap";

/// What every connection of a tap needs.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where the server is.
    pub(crate) to: Address,
    /// How to get there.
    pub(crate) options: ConnectOptions,
    /// Bytes or packets.
    pub(crate) kind: SocketKind,
    /// Whether packets are dRPC, whatever they look like.
    pub(crate) is_drpc: bool,
    /// The types of messages that are shown as JSON.
    pub(crate) schema: Option<DescriptorPool>,
    /// Bytes shown of what no decoder knows.
    pub(crate) shown_max: usize,
    /// Where it is said.
    pub(crate) log: Log,
    /// Connections so far.
    pub(crate) connections: AtomicU64,
}

/// The protocol of a tap's listener.
#[derive(Debug)]
pub(crate) struct Tap(pub(crate) Arc<Proxy>);

impl Protocol for Tap {
    /// They go through, if the server takes them.
    fn takes_descriptors(&self) -> Option<bool> {
        Some(true)
    }

    fn kind(&self) -> SocketKind {
        self.0.kind
    }

    fn serve(&self, connection: Connection) -> Serving {
        let proxy = Arc::clone(&self.0);
        Box::pin(async move {
            let (transport, peer, _, hold) = connection.into_parts();
            Link::new(&proxy).carry(transport, &peer).await;
            drop(hold);
        })
    }

    fn refuse(&self, refused: Refused) -> Serving {
        let proxy = Arc::clone(&self.0);
        Box::pin(async move {
            let note = Note::new(WIRE, "refused").with("client", refused.peer.to_string());
            let note = note.with("why", refused.refusal.to_string());
            Link::new(&proxy).say(None, &note).await;
        })
    }
}

/// One connection.
struct Link<'a> {
    proxy: &'a Proxy,
    number: u64,
    begun: Instant,
    decoder: Mutex<Decoder>,
    /// Told to each direction when the other has ended.
    ended: [Notify; 2],
}

enum Decoder {
    Bytes(Bytes),
    Packets(Packets),
}

impl Decoder {
    fn feed(&mut self, side: Side, bytes: &[u8], at: Duration) -> Vec<(Side, Note)> {
        match self {
            Self::Bytes(decoder) => decoder.feed(side, bytes, at),
            Self::Packets(decoder) => {
                let notes = decoder.feed(side, bytes, at).into_iter();
                notes.map(|note| (side, note)).collect()
            }
        }
    }

    fn end(&mut self, side: Side, at: Duration) -> Vec<(Side, Note)> {
        match self {
            Self::Bytes(decoder) => decoder.end(side, at),
            Self::Packets(_) => Vec::new(),
        }
    }
}

/// What went one way.
#[derive(Default)]
struct Total {
    bytes: u64,
    pieces: u64,
    descriptors: u64,
}

impl<'a> Link<'a> {
    fn new(proxy: &'a Proxy) -> Self {
        let decoder = match proxy.kind {
            SocketKind::Stream => Decoder::Bytes(Bytes::new(proxy.schema.clone(), proxy.shown_max)),
            _ => Decoder::Packets(Packets::new(proxy.is_drpc, proxy.shown_max)),
        };
        Self {
            proxy,
            number: proxy.connections.fetch_add(1, Ordering::Relaxed) + 1,
            begun: Instant::now(),
            decoder: Mutex::new(decoder),
            ended: [Notify::new(), Notify::new()],
        }
    }

    async fn carry(&self, transport: Transport, peer: &Peer) {
        let note = Note::new(WIRE, "opened").with("client", peer.with_names().to_string());
        self.say(None, &note).await;
        let (server, identity) = match self.server().await {
            Ok(server) => server,
            Err(error) => {
                let note = Note::new(WIRE, "no server").with("why", error.to_string());
                return self.say(None, &note).await;
            }
        };
        let note = Note::new(WIRE, "connected").with("server", identity.with_names().to_string());
        self.say(None, &note).await;
        // The front hands over no other kind.
        let Ok(client) = Pipe::try_from(transport) else {
            return;
        };
        tokio::join!(
            self.pass(Side::Client, &client, &server),
            self.pass(Side::Server, &server, &client),
        );
        self.say(None, &Note::new(WIRE, "closed")).await;
    }

    async fn server(&self) -> Result<(Pipe, Peer), ConnectError> {
        let Proxy { to, options, .. } = self.proxy;
        match self.proxy.kind {
            SocketKind::Stream => {
                let (stream, peer) = connect(to, options).await?;
                Ok((stream.into(), peer))
            }
            _ => {
                let (packets, peer) = connect_packet(to, options).await?;
                Ok((Pipe::Packet(packets), peer))
            }
        }
    }

    /// Carries everything from `side` over, and its end.
    async fn pass(&self, side: Side, from: &Pipe, to: &Pipe) {
        let mut total = Total::default();
        let ended = self.pass_all(side, from, to, &mut total).await;
        let mut decoder = self.decoder.lock().await;
        for (side, note) in decoder.end(side, self.begun.elapsed()) {
            self.say(Some(side), &note).await;
        }
        drop(decoder);
        let note = Note::new(WIRE, "end")
            .with("bytes", total.bytes)
            .with("pieces", total.pieces);
        let note = note.with_some(
            "descriptors",
            (total.descriptors > 0).then_some(total.descriptors),
        );
        let why = ended.as_ref().err().map(ToString::to_string);
        self.say(Some(side), &note.with_some("broken", why)).await;
        to.shutdown(Shutdown::Write);
        if ended.is_err() {
            // Whoever goes on sending is to notice.
            from.shutdown(Shutdown::Read);
        }
        let (own, other) = match side {
            Side::Client => (&self.ended[0], &self.ended[1]),
            Side::Server => (&self.ended[1], &self.ended[0]),
        };
        other.notify_one();
        tokio::select! {
            () = own.notified() => {}
            // It is gone, and has not only said all: the other end is to learn that, too.
            _ = from.hung_up() => to.shutdown(Shutdown::Both),
        }
    }

    async fn pass_all(
        &self,
        side: Side,
        from: &Pipe,
        to: &Pipe,
        total: &mut Total,
    ) -> Result<(), PipeError> {
        let mut buffer = from.buffer();
        let mut unshare = Unshare::of(side, from);
        while let Some((piece, place)) = placed::recv(from, &mut buffer).await? {
            let bytes = &mut buffer[..piece.length];
            if unshare.as_mut().is_some_and(|unshare| unshare.pass(bytes)) {
                let note = Note::new(
                    WIRE,
                    "took the offer of shared memory out of the greeting: what travels there no tap sees",
                );
                self.say(Some(side), &note).await;
            }
            let bytes = &*bytes;
            total.bytes += bytes.len() as u64;
            total.pieces += 1;
            total.descriptors += piece.fds.len() as u64;
            let (before, bytes) = bytes.split_at(place.min(bytes.len()));
            if !before.is_empty() {
                self.show(side, before, None).await;
                to.send(before, &[]).await?;
            }
            let note = descriptors(&piece.fds, piece.fds_lost);
            self.show(side, bytes, note).await;
            to.send(bytes, &piece.fds).await?;
        }
        Ok(())
    }

    /// Says what comes from `side`.
    async fn show(&self, side: Side, bytes: &[u8], descriptors: Option<Note>) {
        // Held while it is said, so that lines stand in the order of what they are about.
        let mut decoder = self.decoder.lock().await;
        let at = self.begun.elapsed();
        if let Some(note) = descriptors {
            self.say_at(at, Some(side), &note).await;
        }
        for (side, note) in decoder.feed(side, bytes, at) {
            self.say_at(at, Some(side), &note).await;
        }
    }

    async fn say(&self, from: Option<Side>, note: &Note) {
        self.say_at(self.begun.elapsed(), from, note).await;
    }

    async fn say_at(&self, at: Duration, from: Option<Side>, note: &Note) {
        let place = Place {
            connection: self.number,
            at,
            from,
        };
        self.proxy.log.say(place, note).await;
    }
}

/// What descriptors that go by are.
fn descriptors(fds: &[OwnedFd], lost: bool) -> Option<Note> {
    if fds.is_empty() && !lost {
        return None;
    }
    let descriptions: Vec<String> = fds.iter().map(describe).collect();
    let note = Note::new(WIRE, "descriptors").with("are", descriptions);
    Some(note.with_some("some_were_lost", lost.then_some(true)))
}

/// The kernel's own name of what is behind a descriptor, and the size of a file.
pub(crate) fn describe(fd: &OwnedFd) -> String {
    use rustix::fs::FileType;
    use std::os::fd::AsRawFd as _;
    let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let name = std::fs::read_link(link).map_or_else(
        |error| format!("unknown ({error})"),
        |name| name.to_string_lossy().into_owned(),
    );
    match rustix::fs::fstat(fd) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            format!("{name} ({} bytes)", stat.st_size)
        }
        _ => name,
    }
}
