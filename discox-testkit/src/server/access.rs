//! How the harness itself enters a server: plainly, or where that is asked for over TLS and by who it is.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::authority::Identity;

/// A connection to a server.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What the harness brings along to a server; nothing by default.
#[derive(Clone, Default)]
pub struct Access {
    tls: Option<TlsConnector>,
    headers: String,
    zookeeper_digest: Option<String>,
    tool_env: Vec<(String, String)>,
}

impl Access {
    /// Over TLS, with this identity. The harness trusts every server: whether a certificate is good is for those
    /// under test to say.
    pub fn over_tls(identity: &Identity) -> Result<Access> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsAll(provider)))
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?,
            )?;
        Ok(Access { tls: Some(TlsConnector::from(Arc::new(config))), ..Access::default() })
    }

    /// One more header of the harness's HTTP requests.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Access {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// The harness's own digest login at ZooKeeper, `user:password`.
    #[must_use]
    pub fn zookeeper_digest(mut self, login: String) -> Access {
        self.zookeeper_digest = Some(login);
        self
    }

    /// An environment variable of the registry's own tool, in which `{files}` stands for the folder of the
    /// builder's files.
    #[must_use]
    pub fn tool_env(mut self, name: &str, value: impl Into<String>) -> Access {
        self.tool_env.push((name.to_owned(), value.into()));
        self
    }

    /// Does the server listen for TLS?
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn zookeeper_login(&self) -> Option<&str> {
        self.zookeeper_digest.as_deref()
    }

    /// The tool's variables, where the files lie in this folder.
    pub(crate) fn tool_env_in(&self, files: &str) -> impl Iterator<Item = (String, String)> {
        self.tool_env.iter().map(move |(name, value)| (name.clone(), value.replace("{files}", files)))
    }
}

/// A server's address, and how to get in.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    pub(crate) address: &'a str,
    access: Option<&'a Access>,
}

impl<'a> Door<'a> {
    pub(crate) fn new(address: &'a str, access: &'a Access) -> Self {
        Door { address, access: Some(access) }
    }

    /// The lines of this door's own in an HTTP request.
    pub(crate) fn headers(&self) -> &'a str {
        self.access.map_or("", |access| &access.headers)
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        let Some(tls) = self.access.and_then(|access| access.tls.as_ref()) else {
            return Ok(Box::new(stream));
        };
        let host = self.address.rsplit_once(':').context("no port")?.0;
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

impl<'a> From<&'a str> for Door<'a> {
    fn from(address: &'a str) -> Self {
        Door { address, access: None }
    }
}

/// Accepts every certificate.
#[derive(Debug)]
struct TrustsAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
