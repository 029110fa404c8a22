//! How the crate and its relay know each other: by a certificate whose key never leaves this process. Nobody else on
//! the machine comes through a relay, or passes for one.

use std::{fmt, sync::Arc};

use discox_core::{Error, ErrorKind, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// The host that relays are on.
const HOST: &str = "127.0.0.1";

/// Whoever has it is let through.
#[derive(Clone)]
pub(crate) struct Pass {
    /// As PEM: what the crate has to trust and to show.
    pub(crate) certificate: String,
    pub(crate) key: Zeroizing<String>,
    acceptor: TlsAcceptor,
}

impl Pass {
    /// A new one.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub(super) fn new() -> Result<Self> {
        let failed = |error: &dyn fmt::Display| Error::new(ErrorKind::Protocol, format!("TLS: {error}"));
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([HOST.to_owned()]).map_err(|error| failed(&error))?;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).map_err(|error| failed(&error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let known = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(known)
            .with_single_cert(vec![cert.der().clone()], key)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            certificate: cert.pem(),
            key: Zeroizing::new(signing_key.serialize_pem()),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Lets through who has it.
    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").finish_non_exhaustive()
    }
}
