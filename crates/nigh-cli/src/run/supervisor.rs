//! The one loop of a supervisor: what it is told, what its instances do, and what the clock says.
//!
//! Traps: a child is started on the thread that blocks on the loop, because it dies with that thread. And a signal and a
//! start cannot race: signals come through the same loop, and a child has none of our handlers.

mod status;

use std::io;

use nigh_socket::systemd::{Notifier, State};
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::control::StatusSocket;
use super::inbox::Said;
use super::instance::{Event, Instance, Phase, What};
use super::reap::{self, End};
use super::signals::{Signals, Told};
use super::sockets::Sockets;
use super::store::Store;
use super::{Plan, RunError};
use crate::error::Failure;

/// Messages of instances that wait to be looked at.
const EVENTS_MAX: usize = 64;

/// Old ones that still end. With so many, a wish for a new one waits until one has: none is killed early for it.
const OLD_MAX: usize = 8;

/// What an ended instance has left behind: its process group.
#[derive(Debug)]
struct Leftover {
    group: u32,
    /// Then it is killed.
    until: Instant,
}

/// How the last one ended.
#[derive(Debug)]
struct LastExit {
    pid: u32,
    end: End,
    at: Instant,
}

/// Runs a command, holds its sockets, and replaces it.
#[derive(Debug)]
pub(crate) struct Supervisor {
    plan: Plan,
    /// Gone once it is told to end: then nobody else is to come.
    sockets: Option<Sockets>,
    socket_list: Value,
    store: Store,
    control: StatusSocket,
    signals: Signals,
    manager: Option<Notifier>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    current: Option<Instance>,
    next: Option<Instance>,
    old: Vec<Instance>,
    leftovers: Vec<Leftover>,
    strays_until: Option<Instant>,
    backoff: Backoff,
    /// When the next one is started, while there is none.
    starts_at: Option<Instant>,
    /// Somebody asked for a new one while there was one on the way, or too many old ones.
    replace_again: bool,
    /// The command has been seen to run, and to say when it is ready.
    has_run: bool,
    says_ready: bool,
    /// It is to end: by signal, or because the command has.
    is_ending: bool,
    failure: Option<RunError>,
    started: u64,
    crashes: u64,
    replacements: u64,
    last_exit: Option<LastExit>,
}

impl Supervisor {
    /// Listens to signals from here on.
    pub(crate) fn new(
        plan: Plan,
        sockets: Sockets,
        control: StatusSocket,
        manager: Option<Notifier>,
    ) -> Result<Self, Failure> {
        let signals = Signals::listen()?;
        if let Err(error) = reap::adopt() {
            tracing::warn!("processes that lose their parents go to process 1: {error}");
        }
        Ok(Self {
            socket_list: sockets.as_json(),
            sockets: Some(sockets),
            store: Store::new(plan.stored_max),
            control,
            signals,
            manager,
            events: mpsc::channel(EVENTS_MAX),
            current: None,
            next: None,
            old: Vec::new(),
            leftovers: Vec::new(),
            strays_until: None,
            backoff: Backoff::new(plan.backoff, plan.backoff_max),
            starts_at: Some(Instant::now()),
            replace_again: false,
            has_run: false,
            says_ready: plan.waits_for_ready,
            is_ending: false,
            failure: None,
            started: 0,
            crashes: 0,
            replacements: 0,
            last_exit: None,
            plan,
        })
    }

    /// Until it is told to end, or the command has ended well.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        loop {
            for (pid, end) in reap::ended() {
                self.ended(pid, end);
            }
            self.look_at_the_clock();
            if self.is_over()? {
                return self.failure.map_or(Ok(()), |failure| Err(failure.into()));
            }
            let next = self.next_deadline();
            let far = Instant::now() + std::time::Duration::from_secs(3600);
            tokio::select! {
                told = self.signals.next() => self.told(told),
                Some(event) = self.events.1.recv() => self.heard(event),
                asked = self.control.asked() => {
                    let status = self.status();
                    self.control.answer(asked.map_err(io::Error::other)?, &status);
                }
                () = tokio::time::sleep_until(next.unwrap_or(far)) => {}
            }
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Child => {}
            Told::Replace if self.is_ending => {}
            Told::Replace => self.replace(),
            Told::End if self.is_ending => self.instances().for_each(Instance::kill),
            Told::End => self.end(),
            Told::Pass(signal) => {
                if let Some(current) = &self.current
                    && let Err(error) = current.child.send_signal(signal)
                {
                    tracing::warn!("signal {signal} was not passed on: {error}");
                }
            }
        }
    }

    /// All that run.
    fn instances(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.old
            .iter_mut()
            .chain(&mut self.current)
            .chain(&mut self.next)
    }

    fn start(&mut self) -> Result<Instance, RunError> {
        let Some(sockets) = &self.sockets else {
            return Err(RunError::Orphan);
        };
        self.started += 1;
        let events = self.events.0.clone();
        let mut instance =
            Instance::start(self.started, &self.plan, sockets, &mut self.store, events)?;
        instance.deadline = Some(instance.started + self.patience());
        tracing::info!("process {} started", instance.pid());
        Ok(instance)
    }

    /// How long it may take until it is ready, or counts as ready.
    fn patience(&self) -> std::time::Duration {
        match self.says_ready {
            true => self.plan.start_time,
            false => self.plan.grace,
        }
    }

    /// Starts a new one beside the current one.
    fn replace(&mut self) {
        if self.next.is_some() {
            self.replace_again = true;
            return;
        }
        self.backoff.reset();
        if self.current.is_none() {
            self.starts_at = Some(Instant::now());
            return;
        }
        if self.old.len() >= OLD_MAX {
            self.replace_again = true;
            tracing::info!("replaced when one of the {OLD_MAX} old ones has ended");
            return;
        }
        if let Some(manager) = &self.manager
            && let Err(error) = manager.reloading()
        {
            tracing::warn!("{error}");
        }
        match self.start() {
            Ok(next) => self.next = Some(next),
            Err(error) => {
                tracing::error!("not replaced, the old one serves on: {error}");
                self.tell(&State::new().ready());
            }
        }
    }

    /// Tells everybody to end.
    fn end(&mut self) {
        self.is_ending = true;
        self.starts_at = None;
        self.tell(&State::new().stopping());
        // The names go first, so that new callers look elsewhere; who has come is still served.
        self.sockets = None;
        let until = Instant::now() + self.plan.stop_time;
        self.instances().for_each(|instance| instance.stop(until));
    }

    fn tell(&self, state: &State) {
        if let Some(manager) = &self.manager
            && let Err(error) = manager.try_send(state)
        {
            tracing::warn!("{error}");
        }
    }

    fn heard(&mut self, Event { number, what }: Event) {
        let watchdog = self.plan.watchdog;
        let Some(instance) = self.instances().find(|one| one.number == number) else {
            return;
        };
        match what {
            What::Runs => self.has_run = true,
            What::NotRun(message) => instance.not_run = Some(message),
            What::Said(said) => {
                let mut is_ready = false;
                let mut kept = Vec::new();
                for one in said {
                    match one {
                        Said::Ready => is_ready = true,
                        Said::Reloading => {}
                        Said::Stopping => instance.phase = Phase::Stopping,
                        Said::Status(status) => instance.status = status,
                        Said::Alive => {
                            instance.alive_until =
                                watchdog.map(|patience| Instant::now() + patience);
                        }
                        Said::Broken => instance.kill(),
                        other => kept.push(other),
                    }
                }
                if is_ready {
                    self.says_ready = true;
                    self.became_ready(number);
                }
                kept.into_iter().for_each(|one| self.keep(one));
            }
        }
    }

    fn keep(&mut self, said: Said) {
        match said {
            Said::Store {
                name,
                files,
                polled,
            } => {
                let refused = self.store.keep(&name, files, polled);
                if refused > 0 {
                    tracing::warn!(
                        "{refused} descriptors called {name:?} were not kept: --store sets how many are"
                    );
                }
            }
            Said::Forget(name) => self.store.forget(&name),
            _ => {}
        }
    }

    /// The one of that number serves; if it is the next one, the old one is told to end.
    fn became_ready(&mut self, number: u64) {
        let Some(instance) = self.instances().find(|one| one.number == number) else {
            return;
        };
        if instance.phase != Phase::Starting {
            return;
        }
        instance.phase = Phase::Serving;
        instance.deadline = None;
        tracing::info!("process {} is ready", instance.pid());
        let pid = instance.pid();
        if self.next.as_ref().is_some_and(|next| next.number == number) {
            self.promote();
            self.replacements += 1;
        }
        self.tell(
            &State::new()
                .ready()
                .status(&format!("process {pid} serves")),
        );
        if std::mem::take(&mut self.replace_again) {
            self.replace();
        }
    }

    /// The next one is the current one now.
    fn promote(&mut self) {
        let Some(mut old) = std::mem::replace(&mut self.current, self.next.take()) else {
            return;
        };
        old.stop(Instant::now() + self.plan.stop_time);
        self.old.push(old);
    }

    fn ended(&mut self, pid: u32, end: End) {
        let is = |instance: &Instance| instance.pid() == pid;
        if let Some(place) = self.old.iter().position(is) {
            let old = self.old.remove(place);
            self.bury(&old, end);
            if self.next.is_none() && !self.is_ending && std::mem::take(&mut self.replace_again) {
                self.replace();
            }
        } else if let Some(next) = self.next.take_if(|next| is(next)) {
            self.bury(&next, end);
            tracing::error!(
                "process {pid} ended with {end} before it was ready: the old one serves on"
            );
            self.tell(&State::new().ready());
            if std::mem::take(&mut self.replace_again) && !self.is_ending {
                self.replace();
            }
        } else if let Some(current) = self.current.take_if(|current| is(current)) {
            self.bury(&current, end);
            if !self.is_ending {
                self.current_ended(&current, end);
            }
        }
        // Anybody else's was ours to collect, and no more.
    }

    fn current_ended(&mut self, current: &Instance, end: End) {
        if let Some(next) = self.next.take() {
            tracing::error!(
                "process {} ended with {end}: the next one is on its way",
                current.pid()
            );
            self.crashes += 1;
            self.current = Some(next);
            return;
        }
        if end.is_success() && !self.plan.always {
            self.end();
            return;
        }
        if let (Some(message), false) = (&current.not_run, self.has_run) {
            self.failure = Some(RunError::Command {
                program: self.plan.command[0].to_string_lossy().into_owned(),
                message: message.clone(),
            });
            self.end();
            return;
        }
        self.crashes += 1;
        let wait = self.backoff.crashed(current.ran());
        tracing::error!(
            "process {} ended with {end}: started again in {wait:?}",
            current.pid()
        );
        self.starts_at = Some(Instant::now() + wait);
    }

    /// What it has started ends with it.
    fn bury(&mut self, instance: &Instance, end: End) {
        let pid = instance.pid();
        self.last_exit = Some(LastExit {
            pid,
            end,
            at: Instant::now(),
        });
        if reap::signal_group(pid, Signal::TERM) {
            self.leftovers.push(Leftover {
                group: pid,
                until: Instant::now() + self.plan.stop_time,
            });
        }
    }

    /// Does what is due.
    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.starts_at) && self.current.is_none() {
            self.starts_at = None;
            match self.start() {
                Ok(instance) => self.current = Some(instance),
                Err(error) => {
                    let wait = self.backoff.crashed(std::time::Duration::ZERO);
                    tracing::error!("not started, tried again in {wait:?}: {error}");
                    self.starts_at = Some(now + wait);
                }
            }
        }
        let waits = self.says_ready;
        let mut ready = Vec::new();
        for instance in self.instances() {
            if is_due(instance.alive_until) {
                tracing::error!(
                    "process {} has not said that it lives: killed",
                    instance.pid()
                );
                instance.kill();
            } else if is_due(instance.deadline) {
                if instance.phase == Phase::Starting && !waits {
                    ready.push(instance.number);
                    continue;
                }
                let word = instance.phase.word();
                tracing::error!("process {} is {word} for too long: killed", instance.pid());
                instance.kill();
            }
        }
        ready
            .into_iter()
            .for_each(|number| self.became_ready(number));
        self.leftovers.retain(|left| {
            if left.until <= now {
                reap::signal_group(left.group, Signal::KILL);
            }
            reap::has_group(left.group)
        });
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let starts_at = self.starts_at;
        let strays = self.strays_until;
        let leftovers: Vec<Instant> = self.leftovers.iter().map(|left| left.until).collect();
        let instances = self
            .instances()
            .flat_map(|instance| [instance.deadline, instance.alive_until]);
        let all = instances.chain([starts_at, strays]).flatten();
        all.chain(leftovers).min()
    }

    /// Whether nothing is left, as it should be at the end.
    fn is_over(&mut self) -> Result<bool, Failure> {
        if !self.is_ending || self.instances().next().is_some() || !self.leftovers.is_empty() {
            return Ok(false);
        }
        let children = reap::children()?;
        if children.is_empty() {
            return Ok(true);
        }
        // Those that left their group, and came to us when their parents died.
        let now = Instant::now();
        let until = *self.strays_until.get_or_insert(now + self.plan.stop_time);
        let signal = match until <= now {
            true => Signal::KILL,
            false => Signal::TERM,
        };
        for child in children {
            // Nobody else collects it, so that the number is still its own.
            let _ = rustix::process::kill_process(child, signal);
        }
        if signal == Signal::KILL {
            self.strays_until = Some(now + self.plan.stop_time);
        }
        Ok(false)
    }
}
