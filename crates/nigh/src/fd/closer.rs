//! Closes descriptors away from the reactor: closing a file on a network or user file system may block.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Load = Box<dyn Send>;

/// Drops `load` on a thread of its own, soon.
///
/// One thread serves the process; it sleeps when there is nothing to close. What waits for it is bounded by the limits
/// on what may be received and attached.
pub(crate) fn drop_off<T: Send + 'static>(load: T) {
    static CLOSER: OnceLock<Option<Sender<Load>>> = OnceLock::new();
    let closer = CLOSER.get_or_init(|| {
        let (sender, loads) = channel::<Load>();
        let work = move || loads.into_iter().for_each(drop);
        let thread = std::thread::Builder::new().name("nigh-closer".into());
        match thread.spawn(work) {
            Ok(_) => Some(sender),
            Err(error) => {
                tracing::warn!("descriptors are closed in place: no thread to close them: {error}");
                None
            }
        }
    });
    if let Some(closer) = closer {
        // The thread lives as long as the process; if it died all the same, the load is dropped here.
        let _ = closer.send(Box::new(load));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says which thread dropped it.
    struct Witness(Sender<Option<String>>);

    impl Drop for Witness {
        fn drop(&mut self) {
            let name = std::thread::current().name().map(str::to_owned);
            self.0.send(name).unwrap();
        }
    }

    #[test]
    fn what_is_dropped_off_is_closed_on_another_thread() {
        let (told, tells) = channel();
        drop_off(vec![Witness(told.clone()), Witness(told)]);
        for _ in 0..2 {
            assert_eq!(tells.recv().unwrap().as_deref(), Some("nigh-closer"));
        }
    }
}
