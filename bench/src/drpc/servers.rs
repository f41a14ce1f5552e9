//! The servers: one process each, which dies with the one that started it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nigh_drpc::{Failure as Refusal, Module, Modules, Request, Server as Drpc};
use rustix::process::Signal;

use super::{Variant, raw};
use crate::Failure;
use crate::place::Place;

/// The echo of the interop peer, in Go and in Rust.
pub(super) const MODULE: i32 = 77;
pub(super) const METHOD: i32 = 1;

/// A server process; killed when dropped.
pub(super) struct Server {
    child: Child,
    pub(super) socket: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `None` when this machine has no Go.
    pub(super) fn start(
        variant: Variant,
        directory: &Path,
        place: Place,
    ) -> Result<Option<Self>, Failure> {
        let socket = directory.join(variant.key());
        let mut command = match variant {
            Variant::Go => match go_peer(directory)? {
                Some(peer) => {
                    let mut command = Command::new(peer);
                    command.arg("serve").arg(&socket).arg("chunked");
                    command
                }
                None => return Ok(None),
            },
            other => {
                let mut command = Command::new(std::env::current_exe()?);
                let words = ["drpc", "serve", other.key()];
                command.args(words).arg(&socket).arg(place.name());
                command
            }
        };
        // Until it has taken its own place, it inherits ours; Go's server keeps the server's.
        place.take(true)?;
        let child = command.stdin(Stdio::null()).spawn();
        place.take(false)?;
        let server = Self {
            child: child?,
            socket,
        };
        let until = Instant::now() + Duration::from_secs(5);
        while raw::connect(&server.socket).is_err() {
            if Instant::now() > until {
                return Err(format!("the server of {} does not listen", variant.key()).into());
            }
            std::thread::yield_now();
        }
        Ok(Some(server))
    }

    pub(super) fn process(&self) -> String {
        self.child.id().to_string()
    }
}

/// Builds the Go peer of the interop checks.
fn go_peer(directory: &Path) -> Result<Option<PathBuf>, Failure> {
    let source = Path::new("interop/drpc/go");
    let version = Command::new("go").arg("version").output();
    if !version.is_ok_and(|output| output.status.success()) || !source.is_dir() {
        eprintln!("without a Go server: there is no go here, or this is not the repository's root");
        return Ok(None);
    }
    let peer = directory.join("go-peer");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&peer).arg(".");
    build.env("GOFLAGS", "-mod=mod").env("GOTOOLCHAIN", "local");
    if build.current_dir(source).status()?.success() {
        Ok(Some(peer))
    } else {
        Err("the Go peer does not build".into())
    }
}

/// Serves `variant` on `socket` until the parent dies.
pub(super) fn serve(variant: &str, socket: &str, place: &str) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Place::named(place)?.take(true)?;
    if variant == Variant::Raw.key() {
        return raw::serve(Path::new(socket));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut modules = Modules::new();
        modules.register(Module::new(MODULE, "bench").method(METHOD, "echo", echo))?;
        let listener = nigh_drpc::listener().bind(format!("unix:{socket}").as_str())?;
        // With blocking callers the server blocks as well; raw packets have one such thread, too.
        let threads = usize::from(variant == Variant::Blocking.key());
        Drpc::new(modules).threads(threads).serve(listener).await?;
        Ok(())
    })
}

async fn echo(request: Request) -> Result<bytes::Bytes, Refusal> {
    Ok(request.body)
}
