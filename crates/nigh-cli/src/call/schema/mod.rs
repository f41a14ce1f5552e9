//! What a server offers: services, methods and the types of their messages, from reflection or from files.

mod error;
mod local;
mod reflection;

pub use error::SchemaError;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};

use super::{Caller, near};

/// Where descriptors come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// The server's reflection service.
    #[default]
    Reflection,
    /// `.proto` files, compiled here; imports are looked for in the folders, then beside the files.
    Proto {
        /// The files.
        files: Vec<PathBuf>,
        /// Folders that imports are relative to.
        imports: Vec<PathBuf>,
    },
    /// A serialised `FileDescriptorSet`, as `protoc --descriptor_set_out --include_imports` writes it.
    DescriptorSet(PathBuf),
}

/// A service or a method, as named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    name: String,
    slash: Option<usize>,
}

/// Why a text names neither a service nor a method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not package.Service/Method")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    /// `package.Service`, `package.Service/Method` or `package.Service.Method`, with or without a slash in front.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .split('.')
                    .all(|word| !word.is_empty() && word.chars().all(is_identifier))
        };
        let good = match name.split_once('/') {
            None => word(name),
            Some((service, method)) => word(service) && word(method) && !method.contains('.'),
        };
        if !good {
            return Err(TargetError(text.to_owned()));
        }
        Ok(Self {
            slash: name.find('/'),
            name: name.to_owned(),
        })
    }
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Target {
    /// Readings of the name, likeliest first: (service, method).
    fn readings(&self) -> Vec<(&str, Option<&str>)> {
        if let Some(at) = self.slash {
            return vec![(&self.name[..at], Some(&self.name[at + 1..]))];
        }
        let mut readings = vec![(self.name.as_str(), None)];
        if let Some((service, method)) = self.name.rsplit_once('.') {
            readings.push((service, Some(method)));
        }
        readings
    }
}

/// What a [`Target`] turned out to name.
#[derive(Debug, Clone)]
pub enum Found {
    /// A whole service.
    Service(ServiceDescriptor),
    /// One method.
    Method(MethodDescriptor),
}

/// Names of the services on offer, sorted.
///
/// # Errors
/// The origin cannot be read.
pub async fn services<T: Caller>(
    origin: &Origin,
    caller: T,
) -> Result<Vec<ServiceName>, SchemaError> {
    let mut names: Vec<ServiceName> = match origin.pool()? {
        Some(pool) => pool
            .services()
            .map(|service| ServiceName(service.full_name().to_owned()))
            .collect(),
        None => {
            let (_, names) = reflection::Session::open(caller).await?;
            names.into_iter().map(ServiceName).collect()
        }
    };
    names.sort();
    names.dedup();
    Ok(names)
}

/// Full name of a service, such as `grpc.health.v1.Health`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName(pub String);

/// Finds what `target` names.
///
/// # Errors
/// The origin cannot be read, or has no such service or method; then near names are given.
pub async fn find<T: Caller>(
    origin: &Origin,
    target: &Target,
    caller: T,
) -> Result<Found, SchemaError> {
    if let Some(pool) = origin.pool()? {
        let names: Vec<String> = pool
            .services()
            .map(|service| service.full_name().to_owned())
            .collect();
        let (service, method) = choose(target, &names)?;
        return in_pool(&pool, service, method);
    }
    let (mut session, names) = reflection::Session::open(caller).await?;
    let (service, method) = choose(target, &names)?;
    let pool = session.pool_for(service).await?;
    in_pool(&pool, service, method)
}

/// The reading of `target` whose service is on offer.
fn choose<'a>(
    target: &'a Target,
    services: &[String],
) -> Result<(&'a str, Option<&'a str>), SchemaError> {
    let readings = target.readings();
    let known = readings
        .iter()
        .find(|(service, _)| services.iter().any(|name| name == service));
    match known {
        Some(&reading) => Ok(reading),
        None => {
            let wanted = readings[0].0;
            Err(SchemaError::NoService {
                service: wanted.to_owned(),
                near: near::near(wanted, services.iter().map(String::as_str)),
                offered: services.to_vec(),
            })
        }
    }
}

fn in_pool(
    pool: &DescriptorPool,
    service: &str,
    method: Option<&str>,
) -> Result<Found, SchemaError> {
    let Some(descriptor) = pool.get_service_by_name(service) else {
        return Err(SchemaError::NotDescribed {
            service: service.to_owned(),
        });
    };
    let Some(method) = method else {
        return Ok(Found::Service(descriptor));
    };
    let found = descriptor.methods().find(|known| known.name() == method);
    found.map(Found::Method).ok_or_else(|| {
        let names: Vec<String> = descriptor
            .methods()
            .map(|method| method.name().to_owned())
            .collect();
        SchemaError::NoMethod {
            service: service.to_owned(),
            method: method.to_owned(),
            near: near::near(method, names.iter().map(String::as_str)),
            offered: names,
        }
    })
}

impl Origin {
    /// The descriptors, when they need no server.
    pub(crate) fn pool(&self) -> Result<Option<DescriptorPool>, SchemaError> {
        match self {
            Self::Reflection => Ok(None),
            Self::Proto { files, imports } => local::compile(files, imports).map(Some),
            Self::DescriptorSet(path) => local::read_set(path).map(Some),
        }
    }
}

/// A message type as a JSON object with every field, to be filled in.
pub fn template(message: &prost_reflect::MessageDescriptor) -> String {
    let fields: Vec<String> = message
        .fields()
        .map(|field| {
            let one = placeholder(&field.kind());
            let value = if field.is_map() {
                "{}".to_owned()
            } else if field.is_list() {
                format!("[{one}]")
            } else {
                one
            };
            format!("\"{}\": {value}", field.json_name())
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn placeholder(kind: &prost_reflect::Kind) -> String {
    use prost_reflect::Kind;
    match kind {
        Kind::String => "\"\"".to_owned(),
        Kind::Bytes => "\"base64\"".to_owned(),
        Kind::Bool => "false".to_owned(),
        Kind::Enum(values) => {
            let first = values
                .values()
                .next()
                .map_or_else(String::new, |value| value.name().to_owned());
            format!("\"{first}\"")
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Duration" => "\"1s\"".to_owned(),
            "google.protobuf.Timestamp" => "\"1970-01-01T00:00:00Z\"".to_owned(),
            _ => "{}".to_owned(),
        },
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, readings) in [
            ("a.S/M", vec![("a.S", Some("M"))]),
            ("/a.S/M", vec![("a.S", Some("M"))]),
            ("a.S.M", vec![("a.S.M", None), ("a.S", Some("M"))]),
            ("S", vec![("S", None)]),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.readings(), readings, "{text}");
        }
        for text in [
            "", "/", "a.S/", "/M/", "a..S/M", "a.S/M/N", "a.S/M.N", "a S/M", "a.S/ä",
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(
                error.to_string().contains("package.Service/Method"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_service_on_offer_decides_how_a_dotted_name_is_read() {
        let offered = ["a.S".to_owned(), "a.S.M".to_owned()];
        let target: Target = "a.S.M".parse().unwrap();
        assert_eq!(choose(&target, &offered).unwrap(), ("a.S.M", None));
        assert_eq!(choose(&target, &offered[..1]).unwrap(), ("a.S", Some("M")));
        let error = choose(&target, &[]).unwrap_err();
        assert!(error.to_string().contains("a.S.M"));
    }
}
