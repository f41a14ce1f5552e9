//! The signals that a supervisor lives by.

use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Start a new one.
    Replace,
    /// End.
    End,
    /// Give it to the command.
    Pass(i32),
    /// A child has ended, or somebody else's that is ours now.
    Child,
}

/// Everything that is listened to. From here on none of them has its usual effect.
#[derive(Debug)]
pub(super) struct Signals {
    child: Signal,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    passed: [(Signal, i32); 4],
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let pass = |number: Number| {
            let number = number.as_raw();
            Ok::<_, io::Error>((signal(SignalKind::from_raw(number))?, number))
        };
        Ok(Self {
            child: signal(SignalKind::child())?,
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            passed: [
                pass(Number::USR1)?,
                pass(Number::USR2)?,
                pass(Number::QUIT)?,
                pass(Number::WINCH)?,
            ],
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Told {
        let [(a, first), (b, second), (c, third), (d, fourth)] = &mut self.passed;
        tokio::select! {
            _ = self.child.recv() => Told::Child,
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hangup.recv() => Told::Replace,
            _ = a.recv() => Told::Pass(*first),
            _ = b.recv() => Told::Pass(*second),
            _ = c.recv() => Told::Pass(*third),
            _ = d.recv() => Told::Pass(*fourth),
        }
    }
}
