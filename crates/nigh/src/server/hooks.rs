//! What is done when a successor serves: those who would wait for ever are let go, and find the successor.

use nigh_socket::{Drain, DrainReason};
use tokio::sync::watch;

use super::health::Health;

/// What is done each time a successor serves.
pub(super) struct Hook(pub(super) Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// Lets the watchers of the health service, and others, go each time a successor serves, so that they do not keep the
/// drain waiting.
pub(super) async fn released(
    health: Option<&Health>,
    hooks: &[Hook],
    mut drains: watch::Receiver<Drain>,
) {
    loop {
        let mut drain = drains.borrow_and_update().clone();
        let _deadline = drain.begun().await;
        if drain.reason() == Some(DrainReason::Replaced) {
            if let Some(health) = health {
                health.release();
            }
            hooks.iter().for_each(|hook| hook.0());
        }
        if drains.changed().await.is_err() {
            return;
        }
    }
}
