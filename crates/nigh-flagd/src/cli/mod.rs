//! The command line: `start` as flagd has it, and what flagd has not: `check`, `eval`, `rebucket`.
//!
//! [`main`] is the program; [`Command`] and [`run`] are for a program that has this one inside.

mod args;
mod config;
mod error;
mod inspect;
mod listen;
mod rebucket;
mod start;

pub use args::{Command, EvalArgs, FileArgs, Generation, RebucketArgs, StartArgs};
pub use config::ConfigError;
pub use error::Failure;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

/// The name under which the program stands in for flagd, ports and all.
const STAND_IN: &str = "flagd";

/// A feature-flag daemon that speaks flagd's protocols on a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "nigh-flagd", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let stands_in = std::env::args_os().next().is_some_and(|name| {
        let name = Path::new(&name).file_name();
        name.is_some_and(|name| name == STAND_IN)
    });
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do if even this cannot be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli.command, stands_in));
            // Whatever still runs has nobody left to serve.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::Io(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                complain(&failure);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs `command`. With `stands_in`, `start` opens flagd's ports.
///
/// # Errors
/// See [`Failure`], whose [`exit_code`](Failure::exit_code) and [`hint`](Failure::hint) are for the caller
/// to use.
pub async fn run(command: Command, stands_in: bool) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(*args, stands_in).await,
        Command::Check(args) => inspect::check(&args),
        Command::Eval(args) => inspect::eval(&args),
        Command::Rebucket(args) => rebucket::run(&args),
        Command::Version => print(&format!("nigh-flagd {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn complain(failure: &Failure) {
    let mut text = format!("error: {}\n", crate::source::describe(failure));
    if let Some(hint) = failure.hint() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Nobody is left to be told that standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::Io)
}
