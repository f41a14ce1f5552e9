//! TLS for the day a service is reached from another machine: rustls, with PEM in and no dangerous door.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::io::Socket;

/// Why TLS could not be set up. Nothing has been sent or opened by then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The PEM text holds no certificate or key, or a broken one.
    #[error("tls: cannot read the {what} from PEM")]
    Pem {
        /// Which of the inputs.
        what: &'static str,
        /// What the parser said.
        source: rustls::pki_types::pem::Error,
    },
    /// The PEM text holds no certificate.
    #[error("tls: no certificate in the {what}")]
    Empty {
        /// Which of the inputs.
        what: &'static str,
    },
    /// rustls refused the configuration.
    #[error("tls: unusable certificate or key")]
    Config(#[from] rustls::Error),
    /// The certificate authority for callers is unusable.
    #[error("tls: unusable certificate authority for callers")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The system's certificate authorities could not be read.
    #[error("tls: this system has no usable certificate authorities")]
    NoSystemRoots,
    /// The name to verify the server by is not a DNS name or IP address.
    #[error("tls: {name:?} is not a name that a certificate can carry")]
    Name {
        /// The name as given.
        name: String,
    },
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| TlsError::Pem { what, source })?;
    if found.is_empty() {
        Err(TlsError::Empty { what })
    } else {
        Ok(found)
    }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|source| TlsError::Pem {
        what: "private key",
        source,
    })
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "certificate authority")? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The server's certificate, and which certificates of callers it believes.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Proves the server to its callers, and asks them for nothing.
    ///
    /// # Errors
    /// The PEM texts or what is in them, see [`TlsError`].
    pub fn new(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        let chain = certificates(certificate_pem, "certificate")?;
        Ok(Self::with(builder.with_single_cert(chain, key(key_pem)?)?))
    }

    /// Proves the server to its callers, and turns away those that `authority_pem` did not sign.
    ///
    /// # Errors
    /// The PEM texts or what is in them, see [`TlsError`].
    pub fn mutual(
        certificate_pem: &[u8],
        key_pem: &[u8],
        authority_pem: &[u8],
    ) -> Result<Self, TlsError> {
        let roots = Arc::new(roots(authority_pem)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier);
        let chain = certificates(certificate_pem, "certificate")?;
        Ok(Self::with(builder.with_single_cert(chain, key(key_pem)?)?))
    }

    fn with(mut config: ServerConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
        }
    }

    pub(crate) async fn accept(
        &self,
        stream: Socket,
    ) -> io::Result<tokio_rustls::server::TlsStream<Socket>> {
        tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config))
            .accept(stream)
            .await
    }
}

/// The caller's own certificate, verified by the handshake, if it was asked for one.
pub(crate) fn certificate(stream: &tokio_rustls::server::TlsStream<Socket>) -> Option<Vec<u8>> {
    let certificates = stream.get_ref().1.peer_certificates()?;
    Some(certificates.first()?.to_vec())
}

/// Which servers a client believes, and how it proves itself.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Believes servers that one of the system's authorities signed.
    ///
    /// # Errors
    /// [`TlsError::NoSystemRoots`] where the system has none.
    pub fn system() -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let (added, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if added == 0 {
            return Err(TlsError::NoSystemRoots);
        }
        Self::with(roots, None)
    }

    /// Believes only servers that `authority_pem` signed.
    ///
    /// # Errors
    /// The PEM text or what is in it, see [`TlsError`].
    pub fn authority(authority_pem: &[u8]) -> Result<Self, TlsError> {
        Self::with(roots(authority_pem)?, None)
    }

    /// As [`authority`](Self::authority), and proves the client by its own certificate.
    ///
    /// # Errors
    /// The PEM texts or what is in them, see [`TlsError`].
    pub fn mutual(
        authority_pem: &[u8],
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<Self, TlsError> {
        let identity = (certificates(certificate_pem, "certificate")?, key(key_pem)?);
        Self::with(roots(authority_pem)?, Some(identity))
    }

    /// Verifies the server by this name instead of the address's host.
    ///
    /// # Errors
    /// [`TlsError::Name`] when no certificate could carry it.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        self.name = Some(parse_name(name)?);
        Ok(self)
    }

    fn with(
        roots: RootCertStore,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            name: None,
        })
    }

    /// Speaks TLS on `stream` for a protocol other than gRPC, whose name in the handshake is `application`: `http/1.1`,
    /// say. The server is verified by `host`, or by the name given to [`server_name`](Self::server_name).
    ///
    /// # Errors
    /// `InvalidInput` for a host that no certificate can carry; otherwise what the handshake fails of.
    ///
    /// # Cancel safety
    /// Dropping the future drops the stream.
    pub async fn secure<S>(
        &self,
        host: &str,
        application: &str,
        stream: S,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let name = self.name_for(host);
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![application.as_bytes().to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await
    }

    /// The name to verify, before anything is sent.
    pub(crate) fn name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        self.name.clone().map_or_else(|| parse_name(host), Ok)
    }

    pub(crate) async fn connect(
        &self,
        name: ServerName<'static>,
        stream: Socket,
    ) -> io::Result<tokio_rustls::client::TlsStream<Socket>> {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, stream).await
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name {
        name: name.to_owned(),
    })
}
