//! A model of the connection's state machine: real client and server on a virtual stream, random schedules, a paused clock.
//!
//! One seed is one run, on one thread: calls of every kind that are waited for, cancelled, too slow, broken or left half
//! read; a stream that cuts, stalls and may be cut off; a server that may begin to drain. Then:
//! every call has ended once, as its plan and the world allow; no message is lost, doubled or out of order; a call said
//! to be unsent never began; both ends kept the clauses of credit and order ([`watch`]); every place is free again and
//! all credit given back; the connection has ended. `NIGH_MODEL_SEEDS=1000..9000` runs others than the first ones.

mod line;
mod plan;
mod serve;
mod watch;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use nigh_socket::Address;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::line::Virtual;
use self::plan::{Manner, Outcome, Plan};
use self::serve::Handlers;
use super::state::Client;
use super::{Conn, Handle, OURS, Refused, call, driver};
use crate::fd::{self, Descriptors, FdLimits, FdSocket, Side, Terms};
use crate::frame::greeting::DESCRIPTORS;
use crate::frame::{Accepted, Greeting};
use crate::io::{Io, Socket, Transport};
use crate::link::Link;
use crate::link::line::Line;

/// Seeds of every run of the tests.
const SEEDS: std::ops::Range<u64> = 0..150;

/// Virtual time in which everything has to end.
const ALL_TIME: Duration = Duration::from_secs(3600);

/// Numbers that look random and come again (Steele and Vigna's splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn roll(&mut self, sides: usize) -> usize {
        usize::try_from(self.next() % sides as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len())]
    }
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    let nothing = timeout(time, std::future::pending::<()>());
    assert!(nothing.await.is_err());
}

/// What happens to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Drains,
    /// The stream ends, or breaks, in both directions.
    Dies,
}

/// What both sides announce, small enough to be met.
fn greetings(dice: &mut Dice) -> (Greeting, Greeting) {
    let mut side = |calls, paths| Greeting {
        version: 1,
        features: 0,
        frame_bytes_max: dice.one_of(&[1024, 4000, 20_000]),
        header_bytes_max: 4096,
        stream_window: dice.one_of(&[1, 700, 5000, 30_000]),
        connection_window: dice.one_of(&[1, 1500, 9000, 60_000]),
        streams_max: calls,
        paths_max: paths,
        descriptors_max: 0,
    };
    let client = Greeting {
        streams_max: 0,
        ..side(0, 0)
    };
    let server = side(0, 0);
    let (calls, paths) = (dice.one_of(&[1, 2, 5, 12]), dice.one_of(&[0, 1, 4]));
    (
        client,
        Greeting {
            streams_max: calls,
            paths_max: paths,
            ..server
        },
    )
}

/// Both ends, running.
struct World {
    handle: Arc<Handle>,
    driver: tokio::task::JoinHandle<()>,
    server: tokio::task::JoinHandle<Result<(), crate::wire::WireError>>,
    virtual_line: Virtual,
    handlers: Handlers,
    drain: Option<nigh_socket::Front>,
    places: u32,
}

impl World {
    async fn begin(dice: &mut Dice) -> Self {
        let (ours, theirs) = greetings(dice);
        let virtual_line = Virtual::new(dice.next());
        let (client_end, server_end) = virtual_line.ends();
        let handlers = Handlers::default();
        let (client_end, server_end) = (
            carrying(client_end, Side::Client),
            carrying(server_end, Side::Server),
        );
        let front = nigh_socket::Front::new(nigh_socket::Limits::default(), Arc::default());
        let server = handlers.serve(server_end, theirs, front.drains().borrow().clone());
        let server = tokio::spawn(server);
        let (handle, driving) = open(client_end, ours).await;
        Self {
            handle: Arc::new(handle),
            driver: tokio::spawn(driving),
            server,
            virtual_line,
            handlers,
            drain: Some(front),
            places: theirs.streams_max,
        }
    }
}

/// One end, as a socket that may carry descriptors.
fn carrying(end: line::End, side: Side) -> Io {
    let terms = Terms {
        accepts: true,
        limits: FdLimits::default(),
        calls_max: 64,
        user: None,
    };
    let end: Box<dyn crate::io::Memory> = Box::new(end);
    let socket = FdSocket::new(end, fd::Link::new(side, terms), false);
    let socket = Socket::Memory(Box::new(socket));
    Io::new(Transport::Plain(socket), None)
}

/// As [`open`](super::open), with a greeting of one's own.
async fn open(mut io: Io, ours: Greeting) -> (Handle, impl Future<Output = ()> + Send) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ours = Greeting {
        features: DESCRIPTORS,
        descriptors_max: 2,
        ..ours
    };
    io.write_all(&ours.encode()).await.unwrap();
    let mut read = BytesMut::new();
    let (theirs, rest) = loop {
        assert_ne!(io.read_buf(&mut read).await.unwrap(), 0);
        if let Some((theirs, length)) = Greeting::decode(&read).unwrap() {
            break (theirs, read.split_off(length));
        }
    };
    assert_eq!(theirs.features, DESCRIPTORS);
    let fds = io.link();
    fds.as_ref().unwrap().ride_on_frames(theirs.descriptors_max);
    let accepted = Accepted {
        descriptors: true,
        ..ours.accepted()
    };
    let line = Line::new(io, accepted, rest);
    let permits = Arc::new(Semaphore::new(usize::try_from(theirs.streams_max).unwrap()));
    let own = Client::new(theirs.paths_max, Arc::clone(&permits), line, false);
    let conn = Arc::new(Conn {
        link: Arc::new(Link::new((ours, theirs), own, fds)),
        permits,
        address: Address::Path("/virtual".into()),
    });
    let handle = Handle {
        conn: Arc::clone(&conn),
    };
    (handle, driver::drive(conn, None))
}

/// Makes one call as planned; what came of it.
async fn make(handle: Arc<Handle>, plan: Plan) -> Outcome {
    pass(plan.begins).await;
    let mut request = Request::new(plan.body());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = plan.path().parse().unwrap();
    *request.headers_mut() = plan.headers();
    plan::attach(&mut request, plan.id);
    let mut asked = request.extensions_mut().remove::<Descriptors>();
    let calling = async {
        match call(&handle, request, &mut asked, &mut None).await {
            Ok(response) => plan.read(response).await,
            Err(Refused::Unseen(..)) => Outcome::Unsent,
            Err(Refused::Failed(status)) => Outcome::Ended {
                messages: 0,
                code: status.code() as u32,
                text: status.message().into(),
            },
        }
    };
    match plan.manner {
        Manner::Cancel { after } | Manner::Deadline { after } => {
            match timeout(after, calling).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Left,
            }
        }
        Manner::GiveUp { polls } => {
            let mut calling = std::pin::pin!(calling);
            for _ in 0..polls {
                if let Some(outcome) = futures_util::future::poll_immediate(calling.as_mut()).await
                {
                    return outcome;
                }
                tokio::task::yield_now().await;
            }
            Outcome::Left
        }
        Manner::Wait | Manner::ReadSome { .. } | Manner::BreakBody => calling.await,
    }
}

/// One run.
async fn run(seed: u64) -> Result<(), String> {
    let mut dice = Dice(seed);
    let fate = [Fate::Lives, Fate::Lives, Fate::Drains, Fate::Dies][dice.roll(4)];
    let mut world = World::begin(&mut dice).await;
    let count = dice.one_of(&[1, 3, 12, 30]);
    let mut calls = JoinSet::new();
    for id in 0..count {
        let plan = Plan::new(id, &mut dice);
        let handle = Arc::clone(&world.handle);
        calls.spawn(async move { (plan.clone(), make(handle, plan).await) });
    }
    let struck = Arc::new(AtomicBool::new(false));
    if fate != Fate::Lives {
        let (struck, line) = (Arc::clone(&struck), world.virtual_line.clone());
        let (front, is_reset) = (world.drain.take(), dice.roll(2) == 0);
        let at = Duration::from_micros(dice.next() % 40_000);
        tokio::spawn(async move {
            pass(at).await;
            struck.store(true, Ordering::SeqCst);
            match fate {
                // Without its front nobody tells connections to stop, and they take that for a drain.
                Fate::Drains => drop(front),
                _ => line.cut(is_reset),
            }
        });
    }
    let mut unsent = HashSet::new();
    let all = async {
        while let Some(ended) = calls.join_next().await {
            let (plan, outcome) = ended.map_err(|error| format!("a call panicked: {error}"))?;
            if outcome == Outcome::Unsent {
                unsent.insert(plan.id);
            }
            let is_struck = struck.load(Ordering::SeqCst);
            plan.allows(&outcome, is_struck)
                .map_err(|why| format!("{why}: {outcome:?} of {plan:?}"))?;
        }
        Ok::<_, String>(())
    };
    timeout(ALL_TIME, all)
        .await
        .map_err(|_| format!("calls do not end: {:?}", world.handle.conn.link))??;
    if !struck.load(Ordering::SeqCst) {
        probe(&world).await?;
    }
    end(world, fate, &unsent).await
}

/// As many calls at once as there are places: none is lost.
async fn probe(world: &World) -> Result<(), String> {
    let mut calls = JoinSet::new();
    for id in 0..world.places {
        let plan = Plan::probe(10_000 + id);
        calls.spawn(make(Arc::clone(&world.handle), plan));
    }
    let all = async {
        while let Some(ended) = calls.join_next().await {
            let outcome = ended.map_err(|error| error.to_string())?;
            // A drain may come in between.
            if !matches!(
                outcome,
                Outcome::Ended { code: 0 | 14, .. } | Outcome::Unsent
            ) {
                return Err(format!("a call afterwards ended as {outcome:?}"));
            }
        }
        Ok(())
    };
    timeout(ALL_TIME, all)
        .await
        .map_err(|_| "a place is lost: calls afterwards do not end".to_owned())?
}

/// The connection ends, and leaves nothing.
async fn end(mut world: World, fate: Fate, unsent: &HashSet<u32>) -> Result<(), String> {
    let conn = Arc::clone(&world.handle.conn);
    // What the other side has yet to say is said.
    pass(Duration::from_secs(2)).await;
    let (open, places) = (conn.link.lock().open, conn.permits.available_permits());
    if open != 0 {
        return Err(format!("{open} calls are open at the client"));
    }
    if fate == Fate::Lives {
        if places != usize::try_from(world.places).unwrap() {
            return Err(format!("{places} of {} places are free", world.places));
        }
        world.virtual_line.all_is_given_back()?;
    }
    drop(world.handle);
    timeout(ALL_TIME, &mut world.driver)
        .await
        .map_err(|_| format!("the client's connection does not end: {:?}", conn.link))?
        .map_err(|error| error.to_string())?;
    let served = timeout(ALL_TIME, &mut world.server)
        .await
        .map_err(|_| "the server's connection does not end")?
        .map_err(|error| error.to_string())?;
    match served {
        Ok(()) => {}
        // The client closes when its last call is over, whatever the server has yet to say.
        Err(crate::wire::WireError::Io(_)) => {}
        Err(error) => return Err(format!("the server ended with {error}")),
    }
    world.virtual_line.rules_were_kept()?;
    world.handlers.all_ended(unsent)
}

#[test]
fn no_schedule_breaks_the_state_machine() {
    let seeds = std::env::var("NIGH_MODEL_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS, |seeds| {
        let (from, to) = seeds.split_once("..").expect("NIGH_MODEL_SEEDS=FROM..TO");
        from.parse().unwrap()..to.parse().unwrap()
    });
    let failures = Mutex::new(Vec::new());
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        if let Err(why) = runtime.block_on(run(seed)) {
            failures.lock().unwrap().push(format!("seed {seed}: {why}"));
        }
    }
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} seeds, NIGH_MODEL_SEEDS=N..N+1 repeats one:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// The virtual stream carries what a real client announces.
#[test]
fn the_channels_own_greeting_is_one() {
    assert_eq!(Greeting::decode(&OURS.encode()), Ok(Some((OURS, 40))));
}
