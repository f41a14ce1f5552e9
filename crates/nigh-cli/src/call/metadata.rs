//! Request metadata as written on the command line: `name: value`, with base64 where the name ends in `-bin`.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::{KeyAndValueRef, MetadataMap};

/// Why a `--metadata` argument is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// There is no colon.
    #[error("metadata `{0}` has no colon")]
    NoColon(String),
    /// The name has letters that HTTP/2 does not allow.
    #[error("metadata name `{0}` is not lower-case letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// The name belongs to the protocol.
    #[error("metadata name `{0}` belongs to gRPC itself")]
    Reserved(String),
    /// A text value has bytes that a header cannot carry.
    #[error("value of metadata `{0}` is not printable ASCII")]
    Text(String),
    /// The value of a `-bin` name is not base64.
    #[error("value of metadata `{0}` is not base64, which a name ending in -bin needs")]
    Base64(String),
}

impl MetadataError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoColon(_) => Some("write `name: value`"),
            Self::Reserved(name) if name == "grpc-timeout" => Some("use --deadline"),
            Self::Text(_) => Some("give the name the suffix -bin and write the value in base64"),
            Self::Name(_) | Self::Reserved(_) | Self::Base64(_) => None,
        }
    }
}

/// Parses all `--metadata` arguments of one call; a name may come more than once.
///
/// # Errors
/// The first argument that cannot be sent.
pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<MetadataMap, MetadataError> {
    let mut headers = HeaderMap::new();
    for argument in arguments {
        let (name, value) = parse_one(argument.as_ref())?;
        headers.append(name, value);
    }
    Ok(MetadataMap::from_headers(headers))
}

fn parse_one(argument: &str) -> Result<(HeaderName, HeaderValue), MetadataError> {
    let Some((name, value)) = argument.split_once(':') else {
        return Err(MetadataError::NoColon(argument.to_owned()));
    };
    let (name, value) = (name.trim(), value.trim());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(MetadataError::Name(name.to_owned()));
    }
    let name = name.to_ascii_lowercase();
    if name.starts_with("grpc-") || matches!(&*name, "te" | "content-type" | "user-agent" | "host")
    {
        return Err(MetadataError::Reserved(name));
    }
    let printable = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let key = HeaderName::from_bytes(name.as_bytes());
    match (key, HeaderValue::from_str(value)) {
        (Err(_), _) => Err(MetadataError::Name(name)),
        (Ok(key), Ok(value)) if printable => {
            if name.ends_with("-bin") && !is_base64(&key, &value) {
                return Err(MetadataError::Base64(name));
            }
            Ok((key, value))
        }
        (Ok(_), _) if name.ends_with("-bin") => Err(MetadataError::Base64(name)),
        (Ok(_), _) => Err(MetadataError::Text(name)),
    }
}

/// Asks tonic's own decoder, so that what is accepted here is what it sends.
fn is_base64(name: &HeaderName, value: &HeaderValue) -> bool {
    let map = MetadataMap::from_headers(HeaderMap::from_iter([(name.clone(), value.clone())]));
    map.get_bin(name.as_str())
        .is_some_and(|value| value.to_bytes().is_ok())
}

/// Metadata as pairs of text, in the order received; binary values stay in base64.
pub fn pairs(map: &MetadataMap) -> Vec<(String, String)> {
    map.iter()
        .map(|entry| match entry {
            KeyAndValueRef::Ascii(name, value) => (name.to_string(), value.as_encoded_bytes()),
            KeyAndValueRef::Binary(name, value) => (name.to_string(), value.as_encoded_bytes()),
        })
        .map(|(name, value)| (name, String::from_utf8_lossy(value).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary() {
        let map = parse(&[
            "A-Name:  value: with colon ",
            "raw-bin: AAEC",
            "raw-bin:/w==",
        ])
        .unwrap();
        assert_eq!(map.get("a-name").unwrap(), "value: with colon");
        let raw: Vec<_> = map
            .get_all_bin("raw-bin")
            .iter()
            .map(|value| value.to_bytes().unwrap().to_vec())
            .collect();
        assert_eq!(raw, [vec![0, 1, 2], vec![0xff]]);
        assert_eq!(pairs(&map).len(), 3);
    }

    #[test]
    fn what_cannot_be_sent() {
        use MetadataError::{Base64, Name, NoColon, Reserved, Text};
        for (argument, expected) in [
            ("name", NoColon("name".into())),
            (": x", Name(String::new())),
            ("na me: x", Name("na me".into())),
            ("Grpc-Timeout: 1S", Reserved("grpc-timeout".into())),
            ("te: trailers", Reserved("te".into())),
            ("name: ä", Text("name".into())),
            ("name-bin: *", Base64("name-bin".into())),
            ("name-bin: ä", Base64("name-bin".into())),
        ] {
            assert_eq!(parse(&[argument]).unwrap_err(), expected, "{argument}");
        }
    }
}
