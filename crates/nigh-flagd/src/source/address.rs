//! The addresses of sources, as flagd writes them: `file:PATH`, `http(s)://`, `grpc(s)://` and the rest.

use std::path::PathBuf;

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
    #[error("source {address:?}: its scheme is none of file:, http(s)://, grpc(s)://")]
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
            Self::Provider { .. } => Some("the provider of a file is \"file\""),
        }
    }
}

/// flagd's kinds by scheme, beside files.
const FOREIGN: [(&str, &str); 13] = [
    ("http://", "HTTP"),
    ("https://", "HTTP"),
    ("grpc://", "gRPC"),
    ("grpcs://", "gRPC"),
    ("envoy://", "gRPC"),
    ("dns:", "gRPC"),
    ("uds://", "gRPC"),
    ("unix:", "gRPC"),
    ("xds://", "gRPC"),
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
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Self::file(path);
        }
        let address = || text.to_owned();
        match FOREIGN.iter().find(|(scheme, _)| text.starts_with(scheme)) {
            Some((_, kind)) => Err(AddressError::Unsupported {
                address: address(),
                kind,
            }),
            None => Err(AddressError::Unknown { address: address() }),
        }
    }

    /// Reads an entry of `--sources`: an address and its `provider`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn of_source(uri: &str, provider: &str) -> Result<Self, AddressError> {
        match provider {
            "file" | "fsnotify" | "fileinfo" => {
                Self::file(uri.strip_prefix("file:").unwrap_or(uri))
            }
            "http" | "grpc" | "kubernetes" | "gcs" | "azblob" | "s3" => {
                Err(AddressError::Unsupported {
                    address: uri.to_owned(),
                    kind: match provider {
                        "http" => "HTTP",
                        "grpc" => "gRPC",
                        "kubernetes" => "Kubernetes",
                        "gcs" => "Google Cloud Storage",
                        "azblob" => "Azure Blob",
                        _ => "S3",
                    },
                })
            }
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_followed_and_the_rest_is_refused_by_name() {
        let file = Address::parse("file:flags/a.json").unwrap();
        assert_eq!(file.name(), "flags/a.json");
        assert_eq!(Address::of_source("flags/a.json", "file"), Ok(file));
        for (text, kind) in [
            ("https://x/y", "HTTP"),
            ("grpc://x:1", "gRPC"),
            ("core.openfeature.dev/ns/name", "Kubernetes"),
            ("s3://b/k", "S3"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.to_string().contains(kind), "{error}");
            assert!(error.hint().is_some());
        }
        assert!(matches!(
            Address::parse("a.json"),
            Err(AddressError::Unknown { .. })
        ));
        assert_eq!(Address::parse("file:"), Err(AddressError::Empty));
    }
}
