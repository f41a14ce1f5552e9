//! How a provider reaches its daemon and how patient it is: flagd's options, with flagd's defaults and variables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nigh::{Address, AddressError, ChannelOptions, ClientTls, TlsError};
use tonic::Code;

/// Options that make no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// An environment variable has a value that it cannot have.
    #[error("{variable} cannot be {value:?}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The file of certificates cannot be read.
    #[error("cannot read {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds no usable certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl OptionsError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Variable { variable, .. } => Some(match *variable {
                "FLAGD_RESOLVER" => "this provider asks a daemon: say rpc",
                "FLAGD_TARGET_URI" => {
                    "no names are looked up: say FLAGD_SOCKET_PATH, or FLAGD_HOST and FLAGD_PORT"
                }
                "FLAGD_CACHE" => "say lru or disabled",
                "FLAGD_TLS" => "say true or false",
                "FLAGD_FATAL_STATUS_CODES" => "name gRPC codes, such as PERMISSION_DENIED",
                "FLAGD_HOST" | "FLAGD_SOURCE_SELECTOR" => "say it in UTF-8",
                _ => "say a whole number",
            }),
            Self::Address(error) => error.hint(),
            _ => None,
        }
    }
}

/// How a provider reaches its daemon and how patient it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where the daemon is. Default `tcp:localhost:8013`.
    pub address: Address,
    /// How to connect: TLS, who must be listening, keep-alive.
    pub channel: ChannelOptions,
    /// Longest time for one evaluation, and for becoming ready at first. Default 500 ms.
    pub deadline: Duration,
    /// Longest life of the stream of events, after which a new one is opened. Default 10 min, zero for no end. What
    /// changes between two streams is told as a change of unknown flags.
    pub stream_deadline: Duration,
    /// Wait before the second try to reach a daemon that is gone, the first being made at once; each further one doubles
    /// it. Default 1 s.
    pub retry_backoff: Duration,
    /// Longest such wait. Default 5 s.
    pub retry_backoff_max: Duration,
    /// Time between being stale and being in error. Default 10 s.
    pub retry_grace: Duration,
    /// Answers that are kept. Default 1000, 0 for none.
    pub cache_entries_max: usize,
    /// Which flags: `flagSetId=ID` or `source=ADDRESS`. Default all.
    pub selector: String,
    /// Statuses after which there is no other try. Default none.
    pub fatal: Vec<Code>,
}

impl Default for Options {
    fn default() -> Self {
        let address = Address::Tcp {
            host: "localhost".into(),
            port: 8013,
        };
        Self {
            address,
            channel: ChannelOptions::default(),
            deadline: Duration::from_millis(500),
            stream_deadline: Duration::from_secs(600),
            retry_backoff: Duration::from_secs(1),
            retry_backoff_max: Duration::from_secs(5),
            retry_grace: Duration::from_secs(10),
            cache_entries_max: 1000,
            selector: String::new(),
            fatal: Vec::new(),
        }
    }
}

impl Options {
    /// The default options for the daemon at `address`: `unix:PATH`, `unix-abstract:NAME`, `tcp:HOST:PORT` or
    /// `https://HOST:PORT`.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn at(address: &str) -> Result<Self, OptionsError> {
        Ok(Self {
            address: address.parse()?,
            ..Self::default()
        })
    }

    /// What the environment says, in flagd's variables: `FLAGD_SOCKET_PATH`, `FLAGD_DEADLINE_MS` and so on.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn from_env() -> Result<Self, OptionsError> {
        Self::from_variables(std::env::var_os)
    }

    /// As [`from_env`](Self::from_env), with variables from elsewhere. An empty one counts as none.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn from_variables(
        look_up: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, OptionsError> {
        let variables = Variables(look_up);
        let mut options = Self::default();
        if let Some(value) = variables.get("FLAGD_RESOLVER")?
            && !value.eq_ignore_ascii_case("rpc")
        {
            return Err(wrong("FLAGD_RESOLVER", value));
        }
        if let Some(value) = variables.get("FLAGD_TARGET_URI")? {
            return Err(wrong("FLAGD_TARGET_URI", value));
        }
        options.address = variables.address()?;
        if let Some(path) = variables.raw("FLAGD_SERVER_CERT_PATH") {
            let path = PathBuf::from(path);
            let read = std::fs::read(&path);
            let pem = read.map_err(|source| OptionsError::Certificate { path, source })?;
            options.channel = options.channel.tls(ClientTls::authority(&pem)?);
        }
        let times = [
            ("FLAGD_DEADLINE_MS", &mut options.deadline),
            ("FLAGD_STREAM_DEADLINE_MS", &mut options.stream_deadline),
            ("FLAGD_RETRY_BACKOFF_MS", &mut options.retry_backoff),
            ("FLAGD_RETRY_BACKOFF_MAX_MS", &mut options.retry_backoff_max),
        ];
        for (variable, time) in times {
            if let Some(milliseconds) = variables.number(variable)? {
                *time = Duration::from_millis(milliseconds);
            }
        }
        if let Some(seconds) = variables.number("FLAGD_RETRY_GRACE_PERIOD")? {
            options.retry_grace = Duration::from_secs(seconds);
        }
        if let Some(milliseconds) = variables.number::<u64>("FLAGD_KEEP_ALIVE_TIME_MS")? {
            let interval = (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
            options.channel = options.channel.keepalive(interval);
        }
        if let Some(entries) = variables.number("FLAGD_MAX_CACHE_SIZE")? {
            options.cache_entries_max = entries;
        }
        match variables.get("FLAGD_CACHE")? {
            None => {}
            Some(kind) if kind.eq_ignore_ascii_case("lru") => {}
            Some(kind) if kind.eq_ignore_ascii_case("disabled") => options.cache_entries_max = 0,
            Some(kind) => return Err(wrong("FLAGD_CACHE", kind)),
        }
        options.selector = variables.get("FLAGD_SOURCE_SELECTOR")?.unwrap_or_default();
        options.fatal = variables.codes()?;
        Ok(options)
    }
}

struct Variables<F>(F);

impl<F: Fn(&'static str) -> Option<OsString>> Variables<F> {
    /// As it is: a path need not be UTF-8.
    fn raw(&self, variable: &'static str) -> Option<OsString> {
        (self.0)(variable).filter(|value| !value.is_empty())
    }

    fn get(&self, variable: &'static str) -> Result<Option<String>, OptionsError> {
        let text = self.raw(variable).map(OsString::into_string).transpose();
        text.map_err(|raw| wrong(variable, raw.to_string_lossy().into_owned()))
    }

    fn number<N: FromStr>(&self, variable: &'static str) -> Result<Option<N>, OptionsError> {
        let Some(value) = self.get(variable)? else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(variable, value)),
        }
    }

    fn address(&self) -> Result<Address, OptionsError> {
        if let Some(path) = self.raw("FLAGD_SOCKET_PATH") {
            return Ok(Address::Path(path.into()));
        }
        let host = self.get("FLAGD_HOST")?;
        let host = host.unwrap_or_else(|| "localhost".into());
        let port = self.number("FLAGD_PORT")?.unwrap_or(8013);
        match self.get("FLAGD_TLS")? {
            Some(tls) if tls.eq_ignore_ascii_case("true") => Ok(Address::Https { host, port }),
            None => Ok(Address::Tcp { host, port }),
            Some(tls) if tls.eq_ignore_ascii_case("false") => Ok(Address::Tcp { host, port }),
            Some(tls) => Err(wrong("FLAGD_TLS", tls)),
        }
    }

    fn codes(&self) -> Result<Vec<Code>, OptionsError> {
        let variable = "FLAGD_FATAL_STATUS_CODES";
        let value = self.get(variable)?.unwrap_or_default();
        let names = value
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        names
            .map(|name| code(name).ok_or_else(|| wrong(variable, name.to_owned())))
            .collect()
    }
}

fn wrong(variable: &'static str, value: String) -> OptionsError {
    OptionsError::Variable { variable, value }
}

/// A code by the name that gRPC gives it.
fn code(name: &str) -> Option<Code> {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    // Codes run from 0 to 16; their names in Rust differ by case and underscores only.
    (1..=16)
        .map(Code::from)
        .find(|code| plain(&format!("{code:?}")) == plain(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Result<Options, OptionsError> {
        Options::from_variables(|name| {
            let pair = pairs.iter().find(|(variable, _)| *variable == name);
            pair.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn variables_say_where_and_how() {
        let options = of(&[]).unwrap();
        assert_eq!(options.address.to_string(), "tcp:localhost:8013");
        let options = of(&[
            ("FLAGD_HOST", "h"),
            ("FLAGD_PORT", "1"),
            ("FLAGD_TLS", "True"),
        ]);
        assert_eq!(options.unwrap().address.to_string(), "https://h:1");
        let options = of(&[
            ("FLAGD_SOCKET_PATH", "/s"),
            ("FLAGD_HOST", "h"),
            ("FLAGD_CACHE", "disabled"),
            (
                "FLAGD_FATAL_STATUS_CODES",
                "PERMISSION_DENIED, UNAUTHENTICATED",
            ),
            ("FLAGD_RETRY_GRACE_PERIOD", "3"),
            ("FLAGD_SOURCE_SELECTOR", "flagSetId=s"),
        ])
        .unwrap();
        assert_eq!(options.address.to_string(), "unix:/s");
        assert_eq!(options.cache_entries_max, 0);
        assert_eq!(
            options.fatal,
            [Code::PermissionDenied, Code::Unauthenticated]
        );
        assert_eq!(options.retry_grace, Duration::from_secs(3));
        assert_eq!(options.selector, "flagSetId=s");
    }

    #[test]
    fn every_variable_sets_its_option() {
        let plain = of(&[("FLAGD_HOST", ""), ("FLAGD_DEADLINE_MS", "")]).unwrap();
        assert_eq!(plain.address.to_string(), "tcp:localhost:8013");
        assert_eq!(plain.deadline, Duration::from_millis(500));
        assert_eq!(plain.stream_deadline, Duration::from_secs(600));
        assert_eq!(plain.retry_backoff, Duration::from_secs(1));
        assert_eq!(plain.retry_backoff_max, Duration::from_secs(5));
        assert_eq!(plain.retry_grace, Duration::from_secs(10));
        assert_eq!(plain.cache_entries_max, 1000);
        let options = of(&[
            ("FLAGD_RESOLVER", "RPC"),
            ("FLAGD_DEADLINE_MS", "1"),
            ("FLAGD_STREAM_DEADLINE_MS", "2"),
            ("FLAGD_RETRY_BACKOFF_MS", "3"),
            ("FLAGD_RETRY_BACKOFF_MAX_MS", "4"),
            ("FLAGD_KEEP_ALIVE_TIME_MS", "5"),
            ("FLAGD_CACHE", "LRU"),
            ("FLAGD_MAX_CACHE_SIZE", "6"),
        ])
        .unwrap();
        let times = [
            options.deadline,
            options.stream_deadline,
            options.retry_backoff,
            options.retry_backoff_max,
        ];
        assert_eq!(times, [1, 2, 3, 4].map(Duration::from_millis));
        let channel = |keepalive| {
            let options = ChannelOptions::default().keepalive(keepalive);
            format!("{options:?}")
        };
        let five = channel(Some(Duration::from_millis(5)));
        assert_eq!(format!("{:?}", options.channel), five);
        let never = of(&[("FLAGD_KEEP_ALIVE_TIME_MS", "0")]).unwrap().channel;
        assert_eq!(format!("{never:?}"), channel(None));
        assert_eq!(options.cache_entries_max, 6);
    }

    #[test]
    fn certificates_are_read_or_refused() {
        let missing = of(&[("FLAGD_SERVER_CERT_PATH", "/nowhere/ca.pem")]).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nowhere/ca.pem");
        let none = of(&[("FLAGD_SERVER_CERT_PATH", "/dev/null")]).unwrap_err();
        assert!(matches!(none, OptionsError::Tls(_)), "{none}");
    }

    #[test]
    fn what_is_no_text_is_refused_and_a_path_need_not_be() {
        use std::os::unix::ffi::OsStringExt as _;

        let raw = || OsString::from_vec(b"/run/\xff".to_vec());
        for variable in ["FLAGD_HOST", "FLAGD_SOURCE_SELECTOR", "FLAGD_PORT"] {
            let options = Options::from_variables(|name| (name == variable).then(raw));
            let error = options.unwrap_err();
            assert!(error.to_string().starts_with(variable), "{error}");
        }
        let options = Options::from_variables(|name| (name == "FLAGD_SOCKET_PATH").then(raw));
        assert_eq!(options.unwrap().address, Address::Path(raw().into()));
    }

    #[test]
    fn an_address_is_one_of_four_kinds() {
        for address in ["unix:/s", "unix-abstract:s", "tcp:h:1", "https://h:1"] {
            assert_eq!(Options::at(address).unwrap().address.to_string(), address);
        }
        for address in ["", "h:1", "http://h:1", "grpc://h:1"] {
            assert!(Options::at(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named() {
        for (variable, value) in [
            ("FLAGD_PORT", "x"),
            ("FLAGD_DEADLINE_MS", "-1"),
            ("FLAGD_TLS", "perhaps"),
            ("FLAGD_CACHE", "mem"),
            ("FLAGD_MAX_CACHE_SIZE", "many"),
            ("FLAGD_KEEP_ALIVE_TIME_MS", "1s"),
            ("FLAGD_RETRY_GRACE_PERIOD", "1.5"),
            ("FLAGD_RESOLVER", "in-process"),
            ("FLAGD_TARGET_URI", "envoy://h:1/s"),
            ("FLAGD_FATAL_STATUS_CODES", "NO_SUCH"),
        ] {
            let error = of(&[(variable, value)]).unwrap_err();
            assert_eq!(error.to_string(), format!("{variable} cannot be {value:?}"));
            assert!(error.hint().is_some());
        }
    }
}
