//! Settings from a file: what the command line and the environment do not say.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::args::{Generation, StartArgs, parse_duration};
use crate::model::{self, Format, LoadError};
use crate::source::{Address, AddressError, Config};

/// A configuration that makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no JSON or YAML.
    #[error("the configuration {}: {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        error: LoadError,
    },
    /// A setting is of another type.
    #[error("the configuration {}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// Which and why.
        #[source]
        source: serde_json::Error,
    },
    /// `--sources` is no list of sources.
    #[error("--sources is no JSON array of objects with \"uri\" and \"provider\"")]
    Sources(#[source] serde_json::Error),
    /// A setting has a value that it cannot have.
    #[error("the setting {setting} cannot be {value:?}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// The value.
        value: String,
    },
}

/// The file. Settings that it does not know are left alone, as flagd leaves them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    uri: Vec<String>,
    sources: Vec<Config>,
    port: Option<u16>,
    management_port: Option<u16>,
    sync_port: Option<u16>,
    ofrep_port: Option<u16>,
    socket_path: Option<PathBuf>,
    sync_socket_path: Option<PathBuf>,
    server_cert_path: Option<PathBuf>,
    server_key_path: Option<PathBuf>,
    context_value: BTreeMap<String, Value>,
    context_from_header: BTreeMap<String, String>,
    cors_origin: Vec<String>,
    log_format: Option<String>,
    debug: bool,
    stream_deadline: Option<String>,
    max_request_body: Option<usize>,
    max_request_header: Option<u32>,
    disable_sync_metadata: bool,
    fractional: Option<String>,
}

/// Everything that `start` was told, from wherever.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) args: StartArgs,
    pub(super) sources: Vec<Address>,
    pub(super) context: Vec<(String, Value)>,
}

/// Puts arguments and the file they name together; arguments win.
pub(super) fn settle(mut args: StartArgs) -> Result<Settings, super::Failure> {
    let file = match &args.config {
        None => File::default(),
        Some(path) => read(path)?,
    };
    let mut uris = std::mem::take(&mut args.uri);
    if uris.is_empty() {
        uris = file.uri;
    }
    let listed = match args.sources.take() {
        None => file.sources,
        Some(json) => serde_json::from_str(&json).map_err(ConfigError::Sources)?,
    };
    let named = uris.iter().map(|uri| Address::parse(uri));
    let listed = listed.iter().map(Address::of);
    let sources: Result<Vec<Address>, AddressError> = named.chain(listed).collect();
    let mut context: BTreeMap<String, Value> = file.context_value;
    let given = args.context_value.drain(..);
    context.extend(given.map(|(key, value)| (key, Value::from(value))));
    if args.context_from_header.is_empty() {
        args.context_from_header = file.context_from_header.into_iter().collect();
    }
    if args.cors_origin.is_empty() {
        args.cors_origin = file.cors_origin;
    }
    macro_rules! fill {
        ($($setting:ident)*) => { $(args.$setting = args.$setting.take().or(file.$setting);)* };
    }
    fill!(port management_port sync_port ofrep_port socket_path sync_socket_path server_cert_path
        server_key_path log_format max_request_body max_request_header);
    args.debug |= file.debug;
    args.disable_sync_metadata |= file.disable_sync_metadata;
    if let (None, Some(text)) = (args.stream_deadline, file.stream_deadline) {
        let deadline = parse_duration(&text);
        args.stream_deadline = Some(deadline.ok_or(ConfigError::Value {
            setting: "stream-deadline",
            value: text,
        })?);
    }
    if let (None, Some(text)) = (args.fractional, file.fractional) {
        args.fractional = Some(match text.as_str() {
            "v2" => Generation::V2,
            "v3" => Generation::V3,
            _ => {
                let setting = "fractional";
                return Err(ConfigError::Value {
                    setting,
                    value: text,
                }
                .into());
            }
        });
    }
    Ok(Settings {
        args,
        sources: sources?,
        context: context.into_iter().collect(),
    })
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let format = Format::of_name(&path.to_string_lossy());
    let value = model::read_value(&text, format).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        error,
    })?;
    serde_json::from_value(value).map_err(|source| ConfigError::Type {
        path: path.to_owned(),
        source,
    })
}
