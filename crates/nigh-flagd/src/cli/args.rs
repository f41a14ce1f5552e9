//! The arguments, under flagd's names where flagd has them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand, ValueEnum};
use nigh::Policy;

use crate::eval::Fractional;
use crate::service::{PeerFact, Pin};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve flags
    Start(Box<StartArgs>),
    /// Say what is wrong in files of flags, with line and column
    Check(FileArgs),
    /// Evaluate one flag of a file and say why it has its value
    Eval(EvalArgs),
    /// List who would get another variant if one file replaced another
    Rebucket(RebucketArgs),
    /// Print the version
    Version,
}

/// A generation of `fractional`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Generation {
    /// Hashes text: flagd's releases so far.
    V2,
    /// Hashes any value, as CBOR.
    V3,
}

impl From<Generation> for Fractional {
    fn from(generation: Generation) -> Self {
        match generation {
            Generation::V2 => Self::V2,
            Generation::V3 => Self::V3,
        }
    }
}

/// Arguments of `start`.
#[derive(Debug, Default, Args)]
pub struct StartArgs {
    /// A source of flags: file:PATH (.json, .yaml, .yml), http(s)://, grpc(s)://HOST:PORT, unix:PATH (another
    /// daemon's socket). May be repeated; later ones win.
    #[arg(
        short = 'f',
        long,
        env = "FLAGD_URI",
        value_name = "URI",
        value_delimiter = ','
    )]
    pub uri: Vec<String>,
    /// Sources as JSON: [{"uri": "flags.json", "provider": "file"}]; http has authHeader, bearerToken, interval;
    /// grpc has tls, providerID, selector, maxMsgSize; both have certPath.
    #[arg(short = 's', long, env = "FLAGD_SOURCES", value_name = "JSON")]
    pub sources: Option<String>,
    /// Read settings from this file, JSON or YAML, under the long names of these options.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Open flagd's ports (8013 to 8016), as the program does under the name `flagd`.
    #[arg(long)]
    pub flagd_ports: bool,
    /// TCP port for evaluation.
    #[arg(short = 'p', long, env = "FLAGD_PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// TCP port for health and metrics.
    #[arg(short = 'm', long, env = "FLAGD_MANAGEMENT_PORT", value_name = "PORT")]
    pub management_port: Option<u16>,
    /// TCP port for sync.
    #[arg(short = 'g', long, env = "FLAGD_SYNC_PORT", value_name = "PORT")]
    pub sync_port: Option<u16>,
    /// TCP port for OFREP.
    #[arg(short = 'r', long, env = "FLAGD_OFREP_PORT", value_name = "PORT")]
    pub ofrep_port: Option<u16>,
    /// Unix socket for everything.
    #[arg(short = 'd', long, env = "FLAGD_SOCKET_PATH", value_name = "PATH")]
    pub socket_path: Option<PathBuf>,
    /// One more Unix socket for everything.
    #[arg(short = 'e', long, env = "FLAGD_SYNC_SOCKET_PATH", value_name = "PATH")]
    pub sync_socket_path: Option<PathBuf>,
    /// Listen there, too, for those whom --allow admits: unix:PATH, unix-abstract:NAME, tcp:HOST:PORT, or fd:NAME for
    /// what systemd or `nigh run` passes. May be repeated.
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<nigh::Address>,
    /// Permissions of the sockets, in octal. Default 0600.
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub socket_mode: Option<u32>,
    /// Group of the sockets, by name or id.
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Who may use the sockets: same-user (the default), user:NAME|UID, group:NAME|GID, any, none,
    /// with not, and, or and parentheses.
    #[arg(long, value_name = "POLICY")]
    pub allow: Option<Policy>,
    /// Replace the daemon that serves there: it hands its sockets and ports over, so that no call is lost; one that
    /// cannot loses its sockets.
    #[arg(long)]
    pub replace: bool,
    /// Where a daemon that replaces this one asks for its sockets: a path, from which other users are kept away.
    /// Default: the first socket with `.handover` behind its name; with ports alone nowhere.
    #[arg(long, value_name = "PATH")]
    pub handover: Option<PathBuf>,
    /// Certificate of the TCP ports, PEM.
    #[arg(
        short = 'c',
        long,
        env = "FLAGD_SERVER_CERT_PATH",
        value_name = "FILE",
        requires = "server_key_path"
    )]
    pub server_cert_path: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(
        short = 'k',
        long,
        env = "FLAGD_SERVER_KEY_PATH",
        value_name = "FILE",
        requires = "server_cert_path"
    )]
    pub server_key_path: Option<PathBuf>,
    /// An attribute of every evaluation, over what callers say. May be repeated.
    #[arg(short = 'X', long, env = "FLAGD_CONTEXT_VALUE", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = pair)]
    pub context_value: Vec<(String, String)>,
    /// A header that becomes an attribute, over --context-value. May be repeated.
    #[arg(short = 'H', long, env = "FLAGD_CONTEXT_FROM_HEADER", value_name = "HEADER=KEY", value_delimiter = ',', value_parser = pair)]
    pub context_from_header: Vec<(String, String)>,
    /// A fact about the caller that becomes an attribute nobody can forge: uid, gid, executable, unit,
    /// each with =KEY for another name. May be repeated.
    #[arg(long, value_name = "FACT[=KEY]", value_delimiter = ',', value_parser = fact)]
    pub context_from_peer: Vec<(PeerFact, String)>,
    /// Ties the callers that POLICY admits to the flags of one set, or with * to none; callers that no pin
    /// admits are refused. May be repeated; the first that fits counts.
    #[arg(long, value_name = "POLICY=SET", value_parser = pin)]
    pub pin: Vec<Pin>,
    /// Origins that browsers may call from; * for all. May be repeated.
    #[arg(
        short = 'C',
        long,
        env = "FLAGD_CORS_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub cors_origin: Vec<String>,
    /// Form of the log.
    #[arg(
        short = 'z',
        long,
        env = "FLAGD_LOG_FORMAT",
        value_name = "console|json"
    )]
    pub log_format: Option<String>,
    /// Log more.
    #[arg(short = 'x', long, env = "FLAGD_DEBUG", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value = "false", hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        action = clap::ArgAction::Set)]
    pub debug: bool,
    /// Longest life of a stream, such as 10m; 0 for no end.
    #[arg(long, env = "FLAGD_STREAM_DEADLINE", value_name = "TIME", value_parser = duration)]
    pub stream_deadline: Option<Duration>,
    /// Bytes of one request's body; 0 for 256 MiB. Default 1000000.
    #[arg(
        short = 'B',
        long,
        env = "FLAGD_MAX_REQUEST_BODY",
        value_name = "BYTES",
        alias = "max-request-body-bytes"
    )]
    pub max_request_body: Option<usize>,
    /// Bytes of one request's headers; 0 for 1 MiB.
    #[arg(
        short = 'R',
        long,
        env = "FLAGD_MAX_REQUEST_HEADER",
        value_name = "BYTES",
        alias = "max-request-header-bytes"
    )]
    pub max_request_header: Option<u32>,
    /// Leave out sync's deprecated GetMetadata.
    #[arg(long, env = "FLAGD_DISABLE_SYNC_METADATA", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL",
        value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    pub disable_sync_metadata: bool,
    /// How `fractional` makes buckets. Default v2.
    #[arg(long, env = "FLAGD_FRACTIONAL", value_enum, value_name = "GENERATION")]
    pub fractional: Option<Generation>,
    /// Answer TYPE_MISMATCH instead of cutting 3.14 down to 3.
    #[arg(long)]
    pub lossless_integers: bool,
    /// Understood and without effect: this server never punishes keep-alive pings.
    #[arg(long, hide = true, value_name = "TIME")]
    pub keep_alive_min_time: Option<String>,
    /// Understood and without effect.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub keep_alive_permit_without_stream: Option<Option<bool>>,
    /// Not supported: metrics are at /metrics.
    #[arg(short = 't', long, env = "FLAGD_METRICS_EXPORTER", hide = true)]
    pub metrics_exporter: Option<String>,
    /// Not supported.
    #[arg(short = 'o', long, env = "FLAGD_OTEL_COLLECTOR_URI", hide = true)]
    pub otel_collector_uri: Option<String>,
    /// Not supported.
    #[arg(short = 'D', long, env = "FLAGD_OTEL_CERT_PATH", hide = true)]
    pub otel_cert_path: Option<String>,
    /// Not supported.
    #[arg(short = 'K', long, env = "FLAGD_OTEL_KEY_PATH", hide = true)]
    pub otel_key_path: Option<String>,
    /// Not supported.
    #[arg(short = 'A', long, env = "FLAGD_OTEL_CA_PATH", hide = true)]
    pub otel_ca_path: Option<String>,
    /// Not supported.
    #[arg(short = 'I', long, env = "FLAGD_OTEL_RELOAD_INTERVAL", hide = true)]
    pub otel_reload_interval: Option<String>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Files of flags, JSON or YAML.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Fail on warnings, too.
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object per finding.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The file, JSON or YAML.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The flag's key.
    #[arg(value_name = "FLAG")]
    pub flag: String,
    /// The caller's attributes.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub context: String,
    /// How `fractional` makes buckets.
    #[arg(long, value_enum, value_name = "GENERATION", default_value = "v2")]
    pub fractional: Generation,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rebucket`.
#[derive(Debug, Args)]
pub struct RebucketArgs {
    /// The file that is served now.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The file that would replace it.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Contexts to try, one JSON object per line; without it, 10000 made-up targeting keys.
    #[arg(long, value_name = "FILE")]
    pub contexts: Option<PathBuf>,
    /// Number of made-up targeting keys.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub keys: u32,
    /// How `fractional` makes buckets now.
    #[arg(long, value_enum, value_name = "GENERATION", default_value = "v2")]
    pub fractional: Generation,
    /// How it would make them.
    #[arg(long, value_enum, value_name = "GENERATION")]
    pub new_fractional: Option<Generation>,
    /// Print one JSON object per flag.
    #[arg(long)]
    pub json: bool,
}

/// Why an argument is refused, where its type does not say so itself.
#[derive(Debug, Clone, thiserror::Error)]
enum ArgumentError {
    #[error("expected an octal number such as 0660, at most 0777")]
    Mode,
    #[error("expected two words with = between them")]
    Pair,
    #[error("expected a time such as 500ms, 30s, 10m or 1h30m")]
    Duration,
    #[error("{0}")]
    Policy(<Policy as std::str::FromStr>::Err),
    #[error(transparent)]
    Fact(#[from] crate::service::UnknownFact),
}

fn mode(text: &str) -> Result<u32, ArgumentError> {
    match u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err(ArgumentError::Mode),
    }
}

fn pair(text: &str) -> Result<(String, String), ArgumentError> {
    let (key, value) = text.split_once('=').ok_or(ArgumentError::Pair)?;
    if key.is_empty() {
        return Err(ArgumentError::Pair);
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn pin(text: &str) -> Result<Pin, ArgumentError> {
    // A policy may hold a =, a set's name can do without.
    let (policy, set) = text.rsplit_once('=').ok_or(ArgumentError::Pair)?;
    Ok(Pin {
        policy: policy.parse().map_err(ArgumentError::Policy)?,
        set: (set != "*").then(|| set.to_owned()),
    })
}

fn fact(text: &str) -> Result<(PeerFact, String), ArgumentError> {
    let (name, key) = text.split_once('=').unwrap_or((text, text));
    Ok((name.parse::<PeerFact>()?, key.to_owned()))
}

/// A time as Go writes it: `1h30m`, `1.5s`, `0`.
fn duration(text: &str) -> Result<Duration, ArgumentError> {
    parse_duration(text).ok_or(ArgumentError::Duration)
}

/// As the argument, for settings in files.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("1.5s", 1500),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
        ] {
            let expected = Some(Duration::from_millis(milliseconds));
            assert_eq!(parse_duration(text), expected, "{text}");
        }
        for text in ["", "10", "s", "1x", "-1s", "1s2"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
