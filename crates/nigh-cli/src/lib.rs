//! The `nigh` command as a library: the diagnostic service, the call engine and the commands themselves.
//!
//! [`main`] turns arguments into a command, and the command's outcome into an exit code.

mod bench;
pub mod call;
pub mod cli;
mod commands;
mod connect;
pub mod diag;
mod duration;
mod error;
pub mod fdargs;
mod fdinfo;
pub mod greeting;
pub mod output;
mod pipe;
mod run;
pub mod tap;

pub use bench::BenchError;
pub use commands::call::FileError;
pub use commands::demo::DemoError;
pub use commands::drpc::DrpcUsage;
pub use commands::message::MessageError;
pub use commands::peers::NobodyThere;
pub use commands::received::ReceivedError;
pub use commands::serve::{NotServed, PublishCount};
pub use error::Failure;
pub use run::RunError;

use std::error::Error as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use nigh_socket::{AddressError, PolicyError};

use cli::{Cli, Command};
use output::{Manner, Style, When};
use tracing_subscriber::EnvFilter;

/// Environment variable with what to log, in the form of `RUST_LOG`; warnings without it.
pub(crate) const LOG_VARIABLE: &str = "NIGH_LOG";

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(cli.command, cli.color) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                complain(cli.color, &failure.message(), failure.hint().as_deref());
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Sends what the libraries have to say to standard error.
fn start_log(when: When) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(Manner::stderr(when).has_colour())
        .with_writer(io::stderr);
    // A log that somebody else has set up is as good.
    let _ = log.try_init();
}

fn run(command: Command, when: When) -> Result<(), Failure> {
    // The flag daemon sets up a log of its own: flagd's form, flagd's level.
    if !matches!(command, Command::Flagd(_)) {
        start_log(when);
    }
    match command {
        Command::Completions { shell } => return commands::manual::completions(shell),
        Command::Man { dir } => return commands::manual::man(dir.as_deref()),
        Command::Ls(args) => return commands::ls::run(&args, when),
        Command::Stage(args) => return run::stage(&args),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(args) => commands::serve::run(args, when).await,
            Command::Call(args) => commands::call::run(args, when).await,
            Command::Who(args) => commands::who::run(args, when).await,
            Command::Drpc(args) => commands::drpc::run(args, when).await,
            Command::Bench(args) => commands::bench::run(args, when).await,
            Command::Tap(args) => commands::tap::run(args, when).await,
            Command::Peers(args) => commands::peers::run(args, when).await,
            Command::Doctor(args) => commands::doctor::run(args, when).await,
            Command::Send(args) => commands::message::send::run(args, when).await,
            Command::Recv(args) => commands::message::recv::run(args, when).await,
            Command::Bridge(args) => commands::message::bridge::run(args, when).await,
            Command::Echo(args) => commands::message::echo::run(args, when).await,
            Command::Flagd(command) => Ok(nigh_flagd::cli::run(command, false).await?),
            Command::Handover(command) => commands::handover::run(command, when).await,
            Command::Demo(args) => commands::demo::run(args, when).await,
            Command::Run(args) => commands::run::run(*args, when).await,
            Command::Ls(_)
            | Command::Stage(_)
            | Command::Completions { .. }
            | Command::Man { .. } => Ok(()),
        }
    });
    // Whatever still runs in the background has nobody left to serve.
    runtime.shutdown_background();
    outcome
}

/// Says what is wrong with the arguments. Our own types have hints; clap knows the rest.
fn refuse(error: &clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    let own = error
        .source()
        .filter(|_| error.kind() == ErrorKind::ValueValidation);
    let Some(own) = own else {
        // Nothing is left to do if even this cannot be written.
        let _ = error.print();
        return code;
    };
    let hint = if let Some(error) = own.downcast_ref::<AddressError>() {
        error.hint()
    } else if let Some(error) = own.downcast_ref::<PolicyError>() {
        error.hint()
    } else {
        None
    };
    let argument = error.get(clap::error::ContextKind::InvalidArg);
    let place = argument.map_or_else(String::new, |argument| format!("{argument}: "));
    let message = output::visible(&format!("{place}{own}"));
    complain(When::Auto, &message, hint);
    code
}

fn complain(when: When, message: &str, hint: Option<&str>) {
    let manner = Manner::stderr(when);
    let mut text = format!("{} {message}\n", manner.paint(Style::Bad, "error:"));
    if let Some(hint) = hint {
        let label = manner.paint(Style::Warning, "hint:");
        text.push_str(&format!("{label} {}\n", output::visible(hint)));
    }
    // Nobody is left to be told that standard error is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}
