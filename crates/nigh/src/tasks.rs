//! The tasks that serve one connection's calls: they end with it.
//!
//! Trap: hyper keeps a clone of its executor inside each task, so what owns the tasks must not be the executor.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::task::JoinSet;

type Running = Mutex<JoinSet<()>>;

/// Owns the tasks of one connection: they are aborted when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Arc<Running>,
}

/// Spawns tasks for as long as their owner lives.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    running: Weak<Running>,
}

impl Tasks {
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner {
            running: Arc::downgrade(&self.running),
        }
    }
}

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        // Without an owner the connection is gone, and whatever the task was to do for it.
        let Some(running) = self.running.upgrade() else {
            return;
        };
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is let go here, so that the set holds no more than runs.
        while running.try_join_next().is_some() {}
        running.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor as _;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn tasks_end_with_their_owner_though_they_hold_the_executor() {
        let tasks = Tasks::default();
        let spawner = tasks.spawner();
        let (held, gone) = oneshot::channel::<()>();
        let within = spawner.clone();
        spawner.execute(async move {
            let _held = (held, within);
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        drop(tasks);
        assert!(gone.await.is_err(), "the task was dropped");
        let (held, gone) = oneshot::channel::<()>();
        spawner.execute(async move { drop(held) });
        assert!(gone.await.is_err(), "nothing runs without an owner");
    }
}
