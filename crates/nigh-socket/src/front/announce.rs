//! What a server tells its service manager: that it accepts, that it stops, and that it still turns.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::porter::Porter;
use crate::listener::Listener;
use crate::systemd::{Notifier, State};

/// The manager of this process, if it has one.
#[derive(Debug)]
pub(super) struct Manager {
    notifier: Option<Notifier>,
    /// Another process was the service before.
    took_over: bool,
    status: String,
}

impl Manager {
    pub(super) fn new(
        notifier: Option<Notifier>,
        took_over: bool,
        listeners: &[Arc<Listener>],
    ) -> Self {
        let addresses: Vec<String> = listeners
            .iter()
            .map(|listener| listener.address().to_string())
            .collect();
        Self {
            notifier,
            took_over,
            status: format!("accepting on {}", addresses.join(", ")),
        }
    }

    pub(super) async fn ready(&self) {
        let mut state = State::new().ready().status(&self.status);
        if self.took_over {
            state = state.main_pid(std::process::id());
        }
        self.tell(state).await;
    }

    pub(super) async fn stopping(&self) {
        self.tell(State::new().stopping().status("draining")).await;
    }

    /// Says that the server is alive for as long as it is: when its doors answer and the runtime runs a new task.
    pub(super) async fn keep_alive(&self, porter: &Porter) -> Infallible {
        let watched = self
            .notifier
            .as_ref()
            .and_then(|notifier| Some((notifier, notifier.watchdog()?)));
        let Some((notifier, watchdog)) = watched else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(watchdog.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let alive = async {
                porter.answered().await;
                // A task of its own: this one may be polled while no other is.
                tokio::spawn(std::future::ready(())).await
            };
            match tokio::time::timeout(watchdog.interval(), alive).await {
                Ok(_) => {
                    // Without waiting: a manager that does not listen will not hear the next one either.
                    if let Err(error) = notifier.try_send(&State::new().watchdog()) {
                        tracing::warn!(
                            "the service manager does not hear that this server lives: {error}"
                        );
                    }
                }
                Err(_) => tracing::error!(
                    "accepting has not moved on for {:?}: the service manager is not told that this server lives",
                    watchdog.interval()
                ),
            }
        }
    }

    /// It may have to wait for a manager that is busy.
    async fn tell(&self, state: State) {
        let Some(notifier) = self.notifier.clone() else {
            return;
        };
        let sent = tokio::task::spawn_blocking(move || notifier.send(&state)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!("{error}: {}", cause.unwrap_or_default());
            }
            Err(error) => tracing::error!("the service manager was not told: {error}"),
        }
    }
}
