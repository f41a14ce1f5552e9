//! `nigh drpc`: calls a dRPC method by number or name, with bytes or JSON.

mod types;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nigh_drpc::modules::{self, MODULES, ModuleEntry};
use nigh_drpc::wire::Framing;
use nigh_drpc::{CallError, Client, ClientOptions, Reply, Speaks};
use nigh_socket::ConnectOptions;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::call::reply::{Form, to_json};
use crate::call::request::{Input, Requests};
use crate::cli::{DrpcArgs, FramingChoice};
use crate::error::Failure;
use crate::output::{self, Manner, Style, When};
use crate::tap::decode::{hex, unhex};
use crate::tap::proxy::describe;
use types::Types;

/// Bytes of the largest body that is read from a file: what a message may have at most.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Why the arguments make no call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrpcUsage {
    /// Neither a number nor a known name.
    #[error("no module `{0}`")]
    NoModule(String),
    /// Neither a number nor a known name.
    #[error("module {module} has no method `{method}`")]
    NoMethod {
        /// The module.
        module: String,
        /// What it does not have.
        method: String,
    },
    /// The body is not written in hexadecimal digits.
    #[error("the body is not an even number of hexadecimal digits")]
    Hex,
    /// A file cannot be read or sent.
    #[error("cannot open {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// More than a message may have.
    #[error("the body is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// No description has the type.
    #[error("the message type `{0}` is not known")]
    NoType(String),
    /// JSON without its type.
    #[error("--proto names no type for the body")]
    NoRequestType,
    /// JSON in a number other than one.
    #[error("the body is not one JSON value")]
    NotOne,
}

impl DrpcUsage {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoModule(_) => {
                let names: Vec<String> = MODULES
                    .iter()
                    .map(|module| format!("{} ({})", module.name, module.id))
                    .collect();
                format!("any number will do; known names: {}", names.join(", "))
            }
            Self::NoMethod { .. } => {
                "any number will do; `nigh drpc ADDR MODULE` lists the known names".into()
            }
            Self::Hex => "JSON needs --proto TYPE; bytes of a file are written @FILE".into(),
            Self::NoType(_) => format!(
                "describe it with --proto-file FILE or --descriptor-set FILE; known types: {}",
                types::names().join(", ")
            ),
            _ => return None,
        })
    }
}

/// Runs `nigh drpc`.
pub(crate) async fn run(args: DrpcArgs, when: When) -> Result<(), Failure> {
    let Some(module) = &args.module else {
        return Ok(list(MODULES, &args, when)?);
    };
    let (module, entry) = module_id(module)?;
    let Some(method) = &args.method else {
        let known: Vec<ModuleEntry> = entry.into_iter().copied().collect();
        return Ok(list(&known, &args, when)?);
    };
    let method = method_id(module, entry, method)?;
    let types = Types::of(&args, module, method)?;
    let body = body(&args, types.as_ref()).await?;
    let descriptors = args.fd.iter().map(|path| open(path));
    let descriptors = descriptors.collect::<Result<Vec<OwnedFd>, _>>()?;
    let start = Instant::now();
    let client = Client::lazy(args.address.clone(), options(&args));
    let call = client.request(module, method).body(body);
    let answer = call
        .descriptors(descriptors)
        .deadline(args.timeout)
        .send()
        .await;
    let took = start.elapsed();
    show(&args, (module, method), types.as_ref(), &answer, took)?;
    answer?;
    Ok(())
}

fn options(args: &DrpcArgs) -> ClientOptions {
    let speaks = match args.framing {
        FramingChoice::Chunked => Speaks::Only(Framing::Chunked),
        FramingChoice::Legacy => Speaks::Only(Framing::Legacy),
        FramingChoice::Probe => Speaks::Probe,
    };
    ClientOptions::default()
        .connect(ConnectOptions::default().wait(args.wait))
        .connect_time(args.timeout)
        .speaks(speaks)
}

fn module_id(text: &str) -> Result<(i32, Option<&'static ModuleEntry>), DrpcUsage> {
    let entry = modules::module(text);
    let id = entry.map(|entry| entry.id).or_else(|| text.parse().ok());
    let id = id.ok_or_else(|| DrpcUsage::NoModule(text.to_owned()))?;
    Ok((id, entry))
}

fn method_id(module: i32, entry: Option<&ModuleEntry>, text: &str) -> Result<i32, DrpcUsage> {
    let known = entry
        .and_then(|entry| entry.method(text))
        .map(|entry| entry.id);
    known.or_else(|| text.parse().ok()).ok_or_else(|| {
        let name = entry.map(|entry| entry.name.to_owned());
        DrpcUsage::NoMethod {
            module: name.unwrap_or_else(|| module.to_string()),
            method: text.to_owned(),
        }
    })
}

async fn body(args: &DrpcArgs, types: Option<&Types>) -> Result<Bytes, Failure> {
    let input = Input::from(args.input.clone());
    if let Some(types) = types
        && input != Input::Nothing
    {
        let request = types.request.clone().ok_or(DrpcUsage::NoRequestType)?;
        let mut requests = Requests::start(&input, request)?;
        let message = requests.next().await.ok_or(DrpcUsage::NotOne)??;
        if requests.next().await.is_some() {
            return Err(DrpcUsage::NotOne.into());
        }
        return Ok(message.encode_to_vec().into());
    }
    let read = tokio::task::spawn_blocking(move || bytes(&input));
    Ok(read.await.map_err(io::Error::other)??)
}

fn bytes(input: &Input) -> Result<Bytes, DrpcUsage> {
    match input {
        Input::Nothing => Ok(Bytes::new()),
        Input::Argument(text) => unhex(text).map(Bytes::from).ok_or(DrpcUsage::Hex),
        Input::File(path) => File::open(path)
            .map_err(|source| (path.clone(), source))
            .and_then(|file| all(file).map_err(|source| (path.clone(), source)))
            .map_err(|(path, source)| DrpcUsage::File { path, source })
            .and_then(bounded),
        Input::Stdin => all(io::stdin())
            .map_err(|source| DrpcUsage::File {
                path: "-".into(),
                source,
            })
            .and_then(bounded),
    }
}

fn all(source: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn bounded(bytes: Vec<u8>) -> Result<Bytes, DrpcUsage> {
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(DrpcUsage::TooLong);
    }
    Ok(bytes.into())
}

/// The bytes of hexadecimal digits, which spaces and colons may separate.
fn open(path: &Path) -> Result<OwnedFd, DrpcUsage> {
    let opened = match path == Path::new("-") {
        true => io::stdin().as_fd().try_clone_to_owned(),
        false => File::open(path).map(OwnedFd::from),
    };
    opened.map_err(|source| DrpcUsage::File {
        path: path.to_owned(),
        source,
    })
}

fn show(
    args: &DrpcArgs,
    (module, method): (i32, i32),
    types: Option<&Types>,
    answer: &Result<Reply, CallError>,
    took: Duration,
) -> Result<(), Failure> {
    let message = match answer {
        Ok(reply) => message(types, reply)?,
        Err(_) => None,
    };
    let descriptors = match answer {
        Ok(reply) => reply.descriptors.iter().map(describe).collect(),
        Err(_) => Vec::new(),
    };
    if args.json {
        let (module_name, method_name) = modules::names(module, method);
        let value = json!({
            "module": {"id": module, "name": module_name},
            "method": {"id": method, "name": method_name},
            "status": status(answer),
            "error": answer.as_ref().err().map(ToString::to_string),
            "body": answer.as_ref().ok().map(|reply| hex(&reply.body)),
            "message": message,
            "descriptors": descriptors,
            "timing": {"total_ms": took.as_secs_f64() * 1e3},
        });
        return Ok(output::print_json(&value)?);
    }
    let Ok(reply) = answer else {
        return Ok(());
    };
    let text = match message {
        Some(message) => output::visible_json(&message.to_string()),
        None => hex(&reply.body),
    };
    output::print(&format!("{text}\n"))?;
    for descriptor in descriptors {
        output::print(&format!("descriptor {}\n", output::visible(&descriptor)))?;
    }
    Ok(())
}

/// The answer as JSON, if its type is known.
fn message(types: Option<&Types>, reply: &Reply) -> Result<Option<Value>, Failure> {
    let Some(kind) = types.and_then(|types| types.response.clone()) else {
        return Ok(None);
    };
    let message = DynamicMessage::decode(kind, reply.body.clone()).map_err(CallError::Decode)?;
    let json = to_json(&message, Form::default())?;
    Ok(serde_json::from_str(&json).ok())
}

fn status(answer: &Result<Reply, CallError>) -> Value {
    match answer {
        Ok(_) => json!({"code": 0, "name": "SUCCESS"}),
        Err(CallError::Status {
            status,
            text,
            reason,
        }) => json!({
            "code": i32::from(*status),
            "name": status.to_string(),
            "text": text,
            "reason": reason.map(|reason| reason.to_string()),
        }),
        Err(_) => Value::Null,
    }
}

/// The methods that DAOS has.
fn list(modules: &[ModuleEntry], args: &DrpcArgs, when: When) -> io::Result<()> {
    let manner = Manner::stdout(when);
    for module in modules {
        for method in module.methods {
            let served_by = format!("{:?}", method.served_by).to_lowercase();
            if args.json {
                output::print_json(&json!({
                    "module": {"id": module.id, "name": module.name},
                    "method": {"id": method.id, "name": method.name},
                    "served_by": served_by,
                }))?;
                continue;
            }
            let name = format!("{} {}", module.name, method.name);
            let name = manner.paint(Style::Strong, &name);
            let rest = format!("  {} {}  {served_by}", module.id, method.id);
            output::print(&format!("{name}{}\n", manner.paint(Style::Faint, &rest)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_in_hexadecimal() {
        assert_eq!(unhex(""), Some(vec![]));
        assert_eq!(unhex("0a:05 fF"), Some(vec![0x0a, 5, 0xff]));
        for text in ["0", "0g", "{}", "\u{e4}b"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_need_no_name_and_names_no_number() {
        let (id, entry) = module_id("mgmt").unwrap();
        assert_eq!((id, method_id(id, entry, "pool_create").unwrap()), (2, 207));
        let (id, entry) = module_id("-7").unwrap();
        assert_eq!((id, method_id(id, entry, "-8").unwrap()), (-7, -8));
        let error = module_id("nonsense").unwrap_err();
        assert!(error.hint().unwrap().contains("SEC_AGENT (1)"), "{error}");
        assert!(method_id(id, entry, "nonsense").is_err());
    }
}
