//! The clock of an open loop: a thread that says when calls are due, to the microsecond.
//!
//! Trap: timers of a runtime are as coarse as a millisecond, and a call that waits for one would look slow.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// A sleep may end this much later than asked; the rest of the time is waited for awake.
const SLACK: Duration = Duration::from_micros(150);

/// Times that wait for somebody to make the call.
const DUE_MAX: usize = 1024;

/// Gives the times at which `calls` calls are due, `rate` a second, each when it has come. It goes on in its own time when
/// nobody takes them: none is left out.
pub(super) fn start(rate: f64, calls: u64) -> io::Result<mpsc::Receiver<Instant>> {
    let (due, times) = mpsc::channel(DUE_MAX);
    let begin = Instant::now();
    std::thread::Builder::new()
        .name("bench clock".to_owned())
        .spawn(move || {
            for call in 0..calls {
                let time = begin + Duration::from_secs_f64(super::histogram::as_float(call) / rate);
                wait_until(time);
                // Nobody takes any more: the measurement is over.
                if due.blocking_send(time).is_err() {
                    return;
                }
            }
        })?;
    Ok(times)
}

fn wait_until(time: Instant) {
    let left = time.saturating_duration_since(Instant::now());
    if left > SLACK {
        std::thread::sleep(left - SLACK);
    }
    while Instant::now() < time {
        std::thread::yield_now();
    }
}
