//! The three kinds of socket beside plain std and tokio ones, on one core, in one process: turns and bursts, in pairs.
//!
//! Trap: std and tokio have no packet sockets. Their datagram types make the same system calls on one, and stand in here.
//! They take no descriptors and lose the end of a connection; what costs the same as nigh by default is in [`hand`].

mod hand;
mod sides;

use std::os::fd::OwnedFd;
use std::os::unix::net as std_net;
use std::time::{Duration, Instant};

use nigh_socket::{self as nigh, blocking};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::{Value, json};

use self::hand::Hand;
use self::sides::{Async, Blocking};
use crate::Failure;
use crate::place::Place;

/// Which kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Seqpacket,
    Datagram,
}

/// Whose socket, and how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// std's or tokio's.
    Plain,
    /// The calls written out that do what nigh does by default.
    Hand,
    /// As it is made.
    Nigh,
    /// Told that neither descriptors nor empty packets come.
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Blocking,
    Async,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// 64 bytes there and back, the other end in a thread or task of its own.
    Turns,
    /// 16 times 4 KiB sent, then received, by one thread.
    Bursts,
}

const KINDS: [Kind; 3] = [Kind::Stream, Kind::Seqpacket, Kind::Datagram];
const FORMS: [Form; 2] = [Form::Blocking, Form::Async];
const LOADS: [Load; 2] = [Load::Turns, Load::Bursts];
const SIDES: [Side; 4] = [Side::Plain, Side::Hand, Side::Nigh, Side::Bytes];

/// What is compared with what.
const RATIOS: [(Side, Side); 4] = [
    (Side::Nigh, Side::Plain),
    (Side::Bytes, Side::Plain),
    (Side::Hand, Side::Plain),
    (Side::Nigh, Side::Hand),
];

const TURN_BYTES: usize = 64;
const BURST_BYTES: usize = 4096;
const BURST: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    kind: Kind,
    form: Form,
    load: Load,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let loads = |kind, form| LOADS.map(|load| Self { kind, form, load });
        KINDS
            .into_iter()
            .flat_map(move |kind| FORMS.into_iter().flat_map(move |form| loads(kind, form)))
    }

    fn name(self) -> String {
        format!("{:?} {:?} {:?}", self.kind, self.form, self.load).to_lowercase()
    }

    /// A stream has nothing beside its bytes to be told of.
    fn sides(self) -> impl Iterator<Item = Side> {
        SIDES.into_iter().filter(move |side| {
            matches!(side, Side::Plain | Side::Nigh) || self.kind != Kind::Stream
        })
    }

    /// Turns or bursts that take some ten milliseconds.
    fn times(self) -> u32 {
        match self.load {
            Load::Turns => 1000,
            Load::Bursts => 400,
        }
    }

    fn time(self, side: Side, times: u32) -> Result<Duration, Failure> {
        match self.form {
            Form::Blocking => self.time_blocking(side, times),
            Form::Async => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()?;
                runtime.block_on(self.time_async(side, times))
            }
        }
    }

    fn time_blocking(self, side: Side, times: u32) -> Result<Duration, Failure> {
        let (a, b) = pair(self.kind)?;
        match (self.kind, side) {
            (Kind::Stream, Side::Plain) => blocking_load(
                self.load,
                std_net::UnixStream::from(a),
                std_net::UnixStream::from(b),
                times,
            ),
            (Kind::Stream, _) => blocking_load(
                self.load,
                blocking::UnixStream::new(a)?,
                blocking::UnixStream::new(b)?,
                times,
            ),
            (_, Side::Plain) => blocking_load(
                self.load,
                std_net::UnixDatagram::from(a),
                std_net::UnixDatagram::from(b),
                times,
            ),
            (kind, Side::Hand) => {
                let (a, b) = (Hand::blocking(kind, a)?, Hand::blocking(kind, b)?);
                blocking_load(self.load, a, b, times)
            }
            (Kind::Seqpacket, side) => {
                let (a, b) = (
                    blocking::UnixSeqpacket::new(a)?,
                    blocking::UnixSeqpacket::new(b)?,
                );
                for socket in [&a, &b] {
                    socket.set_pass_rights(side == Side::Nigh)?;
                    socket.set_empty_packets(side == Side::Nigh)?;
                }
                blocking_load(self.load, a, b, times)
            }
            (Kind::Datagram, side) => {
                let (a, b) = (
                    blocking::UnixDatagram::new(a)?,
                    blocking::UnixDatagram::new(b)?,
                );
                for socket in [&a, &b] {
                    socket.set_pass_rights(side == Side::Nigh)?;
                }
                blocking_load(self.load, a, b, times)
            }
        }
    }

    async fn time_async(self, side: Side, times: u32) -> Result<Duration, Failure> {
        let (a, b) = pair(self.kind)?;
        rustix::io::ioctl_fionbio(&a, true)?;
        rustix::io::ioctl_fionbio(&b, true)?;
        match (self.kind, side) {
            (Kind::Stream, Side::Plain) => {
                let tokio = |fd| tokio::net::UnixStream::from_std(std_net::UnixStream::from(fd));
                async_load(self.load, tokio(a)?, tokio(b)?, times).await
            }
            (Kind::Stream, _) => {
                let (a, b) = (nigh::UnixStream::new(a)?, nigh::UnixStream::new(b)?);
                async_load(self.load, a, b, times).await
            }
            (_, Side::Plain) => {
                let tokio =
                    |fd| tokio::net::UnixDatagram::from_std(std_net::UnixDatagram::from(fd));
                async_load(self.load, tokio(a)?, tokio(b)?, times).await
            }
            (kind, Side::Hand) => {
                let (a, b) = (Hand::polled(kind, a)?, Hand::polled(kind, b)?);
                async_load(self.load, a, b, times).await
            }
            (Kind::Seqpacket, side) => {
                let (a, b) = (nigh::UnixSeqpacket::new(a)?, nigh::UnixSeqpacket::new(b)?);
                for socket in [&a, &b] {
                    socket.set_pass_rights(side == Side::Nigh)?;
                    socket.set_empty_packets(side == Side::Nigh)?;
                }
                async_load(self.load, a, b, times).await
            }
            (Kind::Datagram, side) => {
                let (a, b) = (nigh::UnixDatagram::new(a)?, nigh::UnixDatagram::new(b)?);
                for socket in [&a, &b] {
                    socket.set_pass_rights(side == Side::Nigh)?;
                }
                async_load(self.load, a, b, times).await
            }
        }
    }
}

fn pair(kind: Kind) -> Result<(OwnedFd, OwnedFd), Failure> {
    let kind = match kind {
        Kind::Stream => SocketType::STREAM,
        Kind::Seqpacket => SocketType::SEQPACKET,
        Kind::Datagram => SocketType::DGRAM,
    };
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn blocking_load<S: Blocking>(
    load: Load,
    mut a: S,
    mut b: S,
    times: u32,
) -> Result<Duration, Failure> {
    if load == Load::Bursts {
        let mut buffer = vec![0; BURST_BYTES];
        let began = Instant::now();
        for _ in 0..times {
            for _ in 0..BURST {
                a.put(&buffer)?;
            }
            for _ in 0..BURST {
                b.take(&mut buffer)?;
            }
        }
        return Ok(began.elapsed());
    }
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || {
            let mut buffer = [0; TURN_BYTES];
            for _ in 0..times {
                b.take(&mut buffer)?;
                b.put(&buffer)?;
            }
            Ok::<(), Failure>(())
        });
        let mut buffer = [0; TURN_BYTES];
        let began = Instant::now();
        for _ in 0..times {
            a.put(&buffer)?;
            a.take(&mut buffer)?;
        }
        let time = began.elapsed();
        echo.join().map_err(|_| "the other end panicked")??;
        Ok(time)
    })
}

async fn async_load<S: Async>(
    load: Load,
    mut a: S,
    mut b: S,
    times: u32,
) -> Result<Duration, Failure> {
    let began = Instant::now();
    if load == Load::Bursts {
        let mut buffer = vec![0; BURST_BYTES];
        for _ in 0..times {
            for _ in 0..BURST {
                a.put(&buffer).await?;
            }
            for _ in 0..BURST {
                b.take(&mut buffer).await?;
            }
        }
        return Ok(began.elapsed());
    }
    let echo = async {
        let mut buffer = [0; TURN_BYTES];
        for _ in 0..times {
            b.take(&mut buffer).await?;
            b.put(&buffer).await?;
        }
        Ok::<(), Failure>(())
    };
    let asks = async {
        let mut buffer = [0; TURN_BYTES];
        for _ in 0..times {
            a.put(&buffer).await?;
            a.take(&mut buffer).await?;
        }
        Ok::<(), Failure>(())
    };
    tokio::try_join!(echo, asks)?;
    Ok(began.elapsed())
}

/// The quartiles of what was seen.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| {
        values
            .get(values.len() * part / 4)
            .copied()
            .unwrap_or(f64::NAN)
    };
    [at(1), at(2), at(3)]
}

/// `bench sockets [--pairs N] [--json FILE]`, or for counting instructions `bench sockets count CASE SIDE TIMES`, where a
/// case is `stream blocking turns` in one word, and a side `plain`, `hand`, `nigh` or `bytes`.
pub(crate) fn run(mut words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let (mut pairs, mut json) = (41_usize, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word}: a value is missing"));
        match word.as_str() {
            "--pairs" => pairs = value()?.parse()?,
            "--json" => json = Some(value()?),
            "count" => return count(&value()?, &value()?, value()?.parse()?),
            _ => return Err(format!("{word:?} is no option of `sockets`").into()),
        }
    }
    Place::Same.take(false)?;
    let mut all = Vec::new();
    println!("one core; plain's median time; then medians of {pairs} paired ratios (quartiles)");
    for case in Case::all() {
        all.push(compare(case, pairs)?);
    }
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

fn count(case: &str, side: &str, times: u32) -> Result<(), Failure> {
    let case = Case::all().find(|each| each.name() == case);
    let side = SIDES
        .into_iter()
        .find(|each| format!("{each:?}").to_lowercase() == side);
    let (Some(case), Some(side)) = (case, side) else {
        return Err("no such case or side".into());
    };
    case.time(side, times)?;
    Ok(())
}

/// Each pair anew and one after the other, the first of them in turn.
fn compare(case: Case, pairs: usize) -> Result<Value, Failure> {
    let sides: Vec<Side> = case.sides().collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
    for round in 0..=pairs {
        for step in 0..sides.len() {
            let place = (round + step) % sides.len();
            let time = case.time(sides[place], case.times())?.as_secs_f64();
            // The first round is to warm up.
            if round > 0 {
                times[place].push(time * 1e6 / f64::from(case.times()));
            }
        }
    }
    let plain = quartiles(times[0].clone());
    let mut line = format!("{:<26} {:>8.2} us", case.name(), plain[1]);
    let mut value = json!({"case": case.name(), "plain_us": plain});
    for (ours, peer) in RATIOS {
        let seen = |side| sides.iter().zip(&times).find(|(is, _)| **is == side);
        let (Some((_, ours_took)), Some((_, peer_took))) = (seen(ours), seen(peer)) else {
            continue;
        };
        let ratios = ours_took
            .iter()
            .zip(peer_took)
            .map(|(ours, peer)| ours / peer);
        let [low, middle, high] = quartiles(ratios.collect());
        let name = format!("{ours:?}/{peer:?}").to_lowercase();
        line += &format!("   {name} {middle:.3} ({low:.3}..{high:.3})");
        value[name] = json!([low, middle, high]);
    }
    println!("{line}");
    Ok(value)
}
