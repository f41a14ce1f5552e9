//! The addresses of sources, as flagd writes them: `file:PATH`, `http(s)://`, `grpc(s)://` and the rest.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use http::{HeaderValue, Uri};
use serde::Deserialize;
use serde_json::Value;

use crate::model::SOURCE_BYTES_MAX;

/// Time between two questions to a server that cannot tell of changes, as flagd has it.
const INTERVAL: Duration = Duration::from_secs(5);

/// One entry of `--sources`, with flagd's members. Others are ignored, as flagd ignores them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Where it is, in the form of its provider.
    pub uri: String,
    /// What it is: `file`, `http`, `grpc` and so on.
    pub provider: String,
    /// `http`: the whole `Authorization` header.
    pub auth_header: String,
    /// `http`: the token of a `Bearer` header.
    pub bearer_token: String,
    /// Seconds between two questions; 0 for 5.
    pub interval: u32,
    /// `grpc`: speak TLS.
    pub tls: bool,
    /// Believe only servers that this file's certificates signed, instead of the system's; PEM.
    pub cert_path: String,
    /// `grpc`: who asks.
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// `grpc`: which flags.
    pub selector: String,
    /// `grpc`: bytes of one message; 0 for as many as a file may have.
    pub max_msg_size: usize,
    /// `http`: known so that it can be refused.
    oauth: Option<Value>,
}

/// A document on a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub(super) name: String,
    pub(super) uri: Uri,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) interval: Duration,
}

/// A server of `flagd.sync.v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    pub(super) name: String,
    pub(super) address: nigh::Address,
    pub(super) tls: bool,
    pub(super) certificate: Option<PathBuf>,
    pub(super) provider_id: String,
    pub(super) selector: String,
    pub(super) message_bytes_max: usize,
    pub(super) interval: Duration,
}

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A file, JSON or YAML by its extension.
    File {
        /// As configured, without `file:`: what selectors name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A document on a web server.
    Http(Http),
    /// A server of `flagd.sync.v1`.
    Grpc(Grpc),
}

/// A source that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is nothing.
    #[error("the source's address is empty")]
    Empty,
    /// A kind that flagd has and this program has not.
    #[error("source {address:?}: {kind} sources are not supported")]
    Unsupported {
        /// The address.
        address: String,
        /// What it would be.
        kind: &'static str,
    },
    /// A kind that nobody has.
    #[error("source {address:?}: its scheme is none of file:, http(s)://, grpc(s)://, unix:")]
    Unknown {
        /// The address.
        address: String,
    },
    /// A `provider` that contradicts or means nothing.
    #[error("source {address:?}: unknown provider {provider:?}")]
    Provider {
        /// The address.
        address: String,
        /// The provider.
        provider: String,
    },
    /// No URL of a web server.
    #[error("source {address:?}: it is no http(s) URL with a host")]
    Url {
        /// The address.
        address: String,
    },
    /// A URL with a user's name or password in it.
    #[error("source: a URL with credentials in it would be shown in logs")]
    Credentials,
    /// No address of a gRPC server.
    #[error("source {address:?}: {why}")]
    Server {
        /// The address.
        address: String,
        /// Why.
        why: nigh::AddressError,
    },
    /// Two authorizations, or one that no header can carry.
    #[error("source {address:?}: {why}")]
    Authorization {
        /// The address.
        address: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl AddressError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("write file:PATH"),
            Self::Unsupported { .. } => Some(
                "let something that has the means write a file, and follow that with file:PATH",
            ),
            Self::Unknown { .. } => Some("a path is written file:PATH"),
            Self::Provider { .. } => Some("providers are file, http and grpc"),
            Self::Url { .. } => Some("write it like https://example.com/flags.json"),
            Self::Credentials | Self::Authorization { .. } => {
                Some("put the whole header into authHeader, or the token into bearerToken")
            }
            Self::Server { why, .. } => why.hint(),
        }
    }
}

/// flagd's kinds that need what this program has not.
const FOREIGN: [(&str, &str); 6] = [
    ("envoy:", "Envoy-resolved gRPC"),
    ("xds:", "xDS-resolved gRPC"),
    ("core.openfeature.dev/", "Kubernetes"),
    ("gs://", "Google Cloud Storage"),
    ("azblob://", "Azure Blob"),
    ("s3://", "S3"),
];

impl Address {
    /// Reads an address of `--uri`.
    ///
    /// # Errors
    /// When it is empty or of a kind that cannot be followed.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let of = |provider: &str, uri: &str, tls| {
            Self::of(&Config {
                uri: uri.to_owned(),
                provider: provider.to_owned(),
                tls,
                ..Config::default()
            })
        };
        let schemes = [
            "http://",
            "https://",
            "uds:",
            "unix:",
            "unix-abstract:",
            "dns:",
        ];
        match text.split_at(text.find(':').map_or(0, |at| at + 1)) {
            _ if text.is_empty() => Err(AddressError::Empty),
            ("file:", path) => of("file", path, false),
            ("grpc:", target) if target.starts_with("//") => of("grpc", &target[2..], false),
            ("grpcs:", target) if target.starts_with("//") => of("grpc", &target[2..], true),
            _ if !schemes.iter().any(|scheme| text.starts_with(scheme)) => Err(unsupported(text)
                .unwrap_or_else(|| AddressError::Unknown {
                    address: text.to_owned(),
                })),
            ("http:" | "https:", _) => of("http", text, false),
            _ => of("grpc", text, false),
        }
    }

    /// Reads an entry of `--sources`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn of(config: &Config) -> Result<Self, AddressError> {
        let uri = config.uri.as_str();
        if uri.is_empty() {
            return Err(AddressError::Empty);
        }
        let unsupported = |kind| AddressError::Unsupported {
            address: uri.to_owned(),
            kind,
        };
        match config.provider.as_str() {
            "file" | "fsnotify" | "fileinfo" => {
                Self::file(uri.strip_prefix("file:").unwrap_or(uri))
            }
            "http" => Ok(Self::Http(Http::of(config)?)),
            "grpc" => Ok(Self::Grpc(Grpc::of(config)?)),
            "kubernetes" => Err(unsupported("Kubernetes")),
            "gcs" => Err(unsupported("Google Cloud Storage")),
            "azblob" => Err(unsupported("Azure Blob")),
            "s3" => Err(unsupported("S3")),
            other => Err(AddressError::Provider {
                address: uri.to_owned(),
                provider: other.to_owned(),
            }),
        }
    }

    fn file(path: &str) -> Result<Self, AddressError> {
        if path.is_empty() {
            return Err(AddressError::Empty);
        }
        Ok(Self::File {
            name: path.to_owned(),
            path: path.strip_prefix("//").unwrap_or(path).into(),
        })
    }

    /// What selectors and answers call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::File { name, .. } => name,
            Self::Http(http) => &http.name,
            Self::Grpc(grpc) => &grpc.name,
        }
    }
}

fn unsupported(address: &str) -> Option<AddressError> {
    let (_, kind) = FOREIGN
        .iter()
        .find(|(scheme, _)| address.starts_with(scheme))?;
    Some(AddressError::Unsupported {
        address: address.to_owned(),
        kind,
    })
}

impl Http {
    fn of(config: &Config) -> Result<Self, AddressError> {
        let address = || config.uri.clone();
        let uri = Uri::from_str(&config.uri).ok();
        let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let uri = uri.ok_or_else(|| AddressError::Url { address: address() })?;
        if uri
            .authority()
            .is_some_and(|all| all.as_str().contains('@'))
        {
            return Err(AddressError::Credentials);
        }
        let refused = |why| AddressError::Authorization {
            address: address(),
            why,
        };
        if config.oauth.is_some() {
            return Err(refused("OAuth is not supported"));
        }
        let text = match (config.auth_header.as_str(), config.bearer_token.as_str()) {
            ("", "") => None,
            (header, "") => Some(header.to_owned()),
            ("", token) => Some(format!("Bearer {token}")),
            _ => return Err(refused("authHeader and bearerToken exclude each other")),
        };
        let authorization = text.map(|text| {
            let value = HeaderValue::from_str(&text);
            let mut value = value.map_err(|_| refused("no header can carry its authorization"))?;
            // Never shown in a log.
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            name: config.uri.clone(),
            uri,
            authorization: authorization.transpose()?,
            certificate: path(&config.cert_path),
            interval: interval(config),
        })
    }
}

impl Grpc {
    fn of(config: &Config) -> Result<Self, AddressError> {
        let name = config.uri.as_str();
        if let Some(error) = unsupported(name) {
            return Err(error);
        }
        let text = if let Some(path) = name.strip_prefix("uds:") {
            format!("unix:{path}")
        } else if name.starts_with("unix:") || name.starts_with("unix-abstract:") {
            name.to_owned()
        } else {
            let target = name.strip_prefix("dns:").unwrap_or(name);
            let target = target.trim_start_matches('/');
            match config.tls {
                true => format!("https://{target}"),
                false => format!("tcp:{target}"),
            }
        };
        // gRPC writes a path as unix:///path, too.
        let text = text.replacen("unix://", "unix:", 1);
        let address = text.parse().map_err(|why| AddressError::Server {
            address: name.to_owned(),
            why,
        })?;
        Ok(Self {
            name: name.to_owned(),
            address,
            tls: config.tls,
            certificate: path(&config.cert_path),
            provider_id: config.provider_id.clone(),
            selector: config.selector.clone(),
            message_bytes_max: match config.max_msg_size {
                0 => SOURCE_BYTES_MAX,
                bytes => bytes.min(SOURCE_BYTES_MAX),
            },
            interval: interval(config),
        })
    }
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

fn interval(config: &Config) -> Duration {
    match config.interval {
        0 => INTERVAL,
        seconds => Duration::from_secs(seconds.into()),
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
