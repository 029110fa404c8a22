//! From files and texts to certificates, keys and a `rustls` configuration.

use std::{
    fmt,
    fs::File,
    io::Read,
    sync::{Arc, OnceLock},
};

use discox_core::{Error, ErrorKind, Pem, Result, TlsConfig};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The longest file of certificates, in bytes: several times the bundle of an operating system.
const LONGEST: u64 = 4 * 1024 * 1024;

/// A client's configuration, with everything read anew, so that rotated certificates are used from the
/// next connection on. TLS 1.2 and 1.3. Blocks for small files to be read.
///
/// # Errors
/// [`Denied`](ErrorKind::Denied), naming the field and the file, when one cannot be used: it may be put
/// right at any time.
pub fn client_config(tls: &TlsConfig, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Protocol, format!("TLS: {error}")))?
        .with_root_certificates(roots(tls)?);
    let mut config = match identity(tls)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable("tls.key", "", &format_args!("does not fit `tls.cert`: {error}")))?,
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Whom we trust: `ca`, or the operating system's where there is none, or both.
///
/// # Errors
/// As [`client_config`].
pub fn roots(tls: &TlsConfig) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if tls.ca.is_none() || tls.system_roots {
        roots.extend(system_roots().roots.iter().cloned());
    }
    if let Some(pem) = &tls.ca {
        for certificate in certificates("tls.ca", pem)? {
            roots.add(certificate).map_err(|error| unusable("tls.ca", place(pem), &error))?;
        }
    }
    if roots.is_empty() {
        return Err(unusable("tls.ca", "", &"the operating system has none, set it"));
    }
    Ok(roots)
}

/// Which files [`client_config`] reads, for an error. Never what they hold.
pub fn files(tls: &TlsConfig) -> String {
    let pem = |pem: &Pem| match pem {
        Pem::File(path) => path.display().to_string(),
        _ => "in memory".to_owned(),
    };
    let ca = tls.ca.as_ref().map_or_else(|| "of the operating system".to_owned(), pem);
    let cert = tls.cert.as_ref().map_or_else(|| "none".to_owned(), pem);
    // A secret's `Debug` shows the file, never the text.
    let key = tls.key.as_ref().map_or_else(|| "none".to_owned(), |key| format!("{key:?}"));
    format!("tls (ca {ca}, cert {cert}, key {key})")
}

/// Makes aws-lc-rs the cryptography of the whole process where nothing else is, for clients that take
/// what the process has and panic where that is nothing.
pub fn provide() {
    // An error says that there is one.
    drop(aws_lc_rs::default_provider().install_default());
}

/// Those of the operating system, read once: it is a large bundle.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system_certificates().iter().cloned());
        roots
    })
}

fn system_certificates() -> &'static [CertificateDer<'static>] {
    static CERTIFICATES: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    CERTIFICATES.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}

fn identity(tls: &TlsConfig) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else { return Ok(None) };
    let chain = certificates("tls.cert", cert)?;
    let key = key.read()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        // What the parser says may quote the text.
        .map_err(|_| unusable("tls.key", "", &"no private key in PEM form, unencrypted"))?;
    Ok(Some((chain, key)))
}

fn certificates(field: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let text = read_pem(field, pem)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(field, place(pem), &"no certificate in PEM form")),
        Err(error) => Err(unusable(field, place(pem), &error)),
    }
}

/// The text of certificates, read anew where it is in a file. `field` is for the error.
fn read_pem(field: &'static str, pem: &Pem) -> Result<String> {
    match pem {
        Pem::Text(text) => Ok(text.clone()),
        Pem::File(path) => {
            let mut text = String::new();
            let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
            read.map(|_| text).map_err(|error| unusable(field, path.display(), &error))
        }
        _ => Err(unusable(field, "", &"of a kind that is not known here")),
    }
}

fn place(pem: &Pem) -> String {
    match pem {
        Pem::File(path) => path.display().to_string(),
        _ => String::new(),
    }
}

fn unusable(field: &str, place: impl fmt::Display, why: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Denied, format!("{field} `{place}` cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_and_texts_are_not_shown() {
        let tls = TlsConfig {
            ca: Some(Pem::File("/etc/ca.pem".into())),
            cert: Some(Pem::Text("a certificate".into())),
            key: Some("a secret".into()),
            ..Default::default()
        };
        let named = files(&tls);
        assert!(named.contains("ca /etc/ca.pem") && named.contains("cert in memory"), "{named}");
        assert!(!named.contains("a secret") && !named.contains("a certificate"), "{named}");
    }
}
