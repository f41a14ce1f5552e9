//! `nigh demo`: a private server, called in every way, and a table of what happened, who called and how long it took.
//!
//! A [`Stage`](stage::Stage) is set up once; each row of the table is one small function on it. To add a row, add one to [`ROWS`].

mod files;
mod rows;
mod sockets;
mod stage;
mod wires;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::json;

use crate::cli::DemoArgs;
use crate::duration;
use crate::error::Failure;
use crate::output::{self, Cell, Manner, Style, When};
use stage::Stage;

/// Longest time for one row: a demonstration that hangs shows nothing.
const ROW_TIME_MAX: Duration = Duration::from_secs(10);

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No private folder for the socket.
    #[error("demo: cannot make the folder {}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server cannot be started.
    #[error("demo: cannot start the server")]
    Start(#[source] io::Error),
    /// The file with the flag cannot be replaced.
    #[error("demo: cannot replace the file of flags")]
    Flip(#[source] io::Error),
    /// The server ended, or said something else than its address.
    #[error("demo: the server did not become ready")]
    NotReady,
    /// tonic's own channel does not reach the server.
    #[error("demo: the stock client cannot connect")]
    Stock(#[from] tonic::transport::Error),
    /// Rows that did not end as they should; the table says which.
    #[error("demo: {0} rows did not end as they should")]
    Surprised(usize),
}

/// What one row shows.
#[derive(Debug, Clone)]
struct Row {
    /// What was done.
    what: &'static str,
    /// Who did it, in the server's words.
    caller: String,
    /// What came of it.
    result: Result<String, String>,
    /// How long one of it took.
    time: Duration,
}

/// One row's work. An error makes the row fail, not the demonstration.
type Act = for<'a> fn(&'a Stage) -> BoxFuture<'a, Result<Done, Failure>>;

/// What an [`Act`] found.
struct Done {
    caller: String,
    result: String,
    time: Duration,
}

/// The table, from top to bottom.
const ROWS: [(&str, Act); 21] = [
    ("a stock gRPC client asks who it is", |stage| {
        Box::pin(rows::stock_who(stage))
    }),
    ("nigh's own client asks who it is", |stage| {
        Box::pin(rows::nigh_who(stage))
    }),
    ("the client asks who the server is", |stage| {
        Box::pin(rows::server_who(stage))
    }),
    ("one call after the other, stock client", |stage| {
        Box::pin(wires::one_by_one(stage.stock.clone()))
    }),
    ("the same, nigh's client over HTTP/2", |stage| {
        Box::pin(wires::one_by_one(stage.http2.clone()))
    }),
    ("the same, on the nigh wire", |stage| {
        Box::pin(wires::one_by_one(stage.nigh.clone()))
    }),
    ("64 calls at once, stock client", |stage| {
        Box::pin(wires::at_once(stage.stock.clone()))
    }),
    ("the same, on the nigh wire", |stage| {
        Box::pin(wires::at_once(stage.nigh.clone()))
    }),
    ("all three on one socket at once", |stage| {
        Box::pin(wires::mixed(stage))
    }),
    ("16 MiB up and down in streams", |stage| {
        Box::pin(rows::streams(stage))
    }),
    ("a conversation, answered line by line", |stage| {
        Box::pin(rows::conversation(stage))
    }),
    ("an open file, there and back", |stage| {
        Box::pin(files::both_ways(stage))
    }),
    ("dRPC on the same server: the greeting", |stage| {
        Box::pin(rows::greeting(stage))
    }),
    ("a flag is flipped by renaming its file", |stage| {
        Box::pin(rows::flag(stage))
    }),
    ("a call over its deadline", |stage| {
        Box::pin(rows::deadline(stage))
    }),
    ("a method for a group the caller is not in", |stage| {
        Box::pin(rows::guarded(stage))
    }),
    ("64 bytes there and back on plain sockets", |stage| {
        Box::pin(sockets::round_trips(stage))
    }),
    ("three pings before the first read", |stage| {
        Box::pin(sockets::three_pings(stage))
    }),
    ("a packet with a sealed file", |stage| {
        Box::pin(sockets::sealed_file(stage))
    }),
    ("a server under a published name", |stage| {
        Box::pin(sockets::published(stage))
    }),
    ("who is connected to the server", |stage| {
        Box::pin(sockets::peers(stage))
    }),
];

/// Runs `nigh demo`.
pub(crate) async fn run(args: DemoArgs, when: When) -> Result<(), Failure> {
    let start = Instant::now();
    let mut stage = Stage::set().await?;
    let mut rows = vec![Row {
        what: "a server on a private socket",
        caller: String::new(),
        result: Ok(format!("process {}, ready", stage.pid())),
        time: start.elapsed(),
    }];
    for (what, act) in ROWS {
        rows.push(perform(what, act, &stage).await);
    }
    rows.push(replace(&mut stage).await);
    rows.push(stop(&mut stage).await);
    show(&rows, &stage, &args, when)?;
    match rows.iter().filter(|row| row.result.is_err()).count() {
        0 => Ok(()),
        failed => Err(DemoError::Surprised(failed).into()),
    }
}

async fn perform(what: &'static str, act: Act, stage: &Stage) -> Row {
    let start = Instant::now();
    let done = tokio::time::timeout(ROW_TIME_MAX, act(stage)).await;
    let (caller, result, time) = match done {
        Ok(Ok(done)) => (done.caller, Ok(done.result), done.time),
        Ok(Err(failure)) => (String::new(), Err(failure.message()), start.elapsed()),
        Err(_) => (String::new(), Err("no end".to_owned()), start.elapsed()),
    };
    Row {
        what,
        caller,
        result,
        time,
    }
}

/// Another process takes the server's place while calls go on.
async fn replace(stage: &mut Stage) -> Row {
    let start = Instant::now();
    let from = stage.pid();
    let load = rows::Load::start(stage);
    let replaced = tokio::time::timeout(ROW_TIME_MAX, stage.replace()).await;
    let (calls, lost) = load.end().await;
    let result = match replaced {
        Ok(Ok(status)) if !status.success() => Err(format!("the old server ended with {status}")),
        Ok(Ok(_)) => match lost {
            None => Ok(format!(
                "{calls} calls meanwhile, none lost; {from} is now {}",
                stage.pid()
            )),
            Some(error) => Err(error),
        },
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no end".to_owned()),
    };
    Row {
        what: "the server is replaced while it is called",
        caller: String::new(),
        result,
        time: start.elapsed(),
    }
}

/// The last row: the server drains, and leaves nothing behind.
async fn stop(stage: &mut Stage) -> Row {
    let start = Instant::now();
    let stopped = tokio::time::timeout(ROW_TIME_MAX, stage.stop()).await;
    let result = match stopped {
        Ok(Ok(status)) if !status.success() => Err(format!("the server ended with {status}")),
        Ok(Ok(_)) if stage.socket_is_there() => Err("the socket was left behind".to_owned()),
        Ok(Ok(_)) => Ok("drained, socket removed".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it did not end".to_owned()),
    };
    Row {
        what: "the server is told to end",
        caller: String::new(),
        result,
        time: start.elapsed(),
    }
}

fn show(rows: &[Row], stage: &Stage, args: &DemoArgs, when: When) -> io::Result<()> {
    if args.json {
        for row in rows {
            output::print_json(&json!({
                "what": row.what,
                "caller": row.caller,
                "ok": row.result.is_ok(),
                "result": row.result.as_ref().unwrap_or_else(|error| error),
                "time_us": row.time.as_secs_f64() * 1e6,
            }))?;
        }
        return Ok(());
    }
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            let (style, result) = match &row.result {
                Ok(result) => (Style::Good, result.clone()),
                Err(error) => (Style::Bad, format!("FAILED: {error}")),
            };
            vec![
                Cell::plain(row.what),
                Cell::new(Style::Faint, &row.caller),
                Cell::plain(format!("{:>7}", duration::show(row.time))),
                Cell::new(style, result),
            ]
        })
        .collect();
    let manner = Manner::stdout(when);
    let table = manner.table(&["WHAT", "CALLER, TO THE SERVER", "TIME", "RESULT"], &cells);
    output::print(&format!("server at {}\n\n{table}", stage.address()))
}
