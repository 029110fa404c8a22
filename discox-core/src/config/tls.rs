//! What users say about TLS. The handshake is the crate `discox-tls`'s.

use std::path::PathBuf;

use crate::{Error, Result, Secret};

/// TLS to the registry: whom we trust, and who we are.
///
/// Files are read again at every connection, so that certificates can be rotated without a restart.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct TlsConfig {
    /// The certificate authorities to trust. Default: those of the operating system.
    pub ca: Option<Pem>,
    /// Trust those of the operating system beside `ca`.
    pub system_roots: bool,
    /// Our certificate with its chain, for registries that ask for one, with `key`.
    pub cert: Option<Pem>,
    /// The private key of `cert`, as PEM: PKCS#8, PKCS#1 or SEC1, without a passphrase.
    pub key: Option<Secret>,
    /// The name that the server's certificate must have. Default: the host of its address. With ZooKeeper
    /// it costs the same as [`ZookeeperOptions::guard`](crate::ZookeeperOptions::guard).
    pub server_name: Option<String>,
}

impl TlsConfig {
    /// Rejects what cannot work. Files are not looked at: they may come later.
    pub(crate) fn check(&self) -> Result<()> {
        match (&self.cert, &self.key) {
            (Some(_), None) => Err(Error::incomplete("tls.key", "tls.cert")),
            (None, Some(_)) => Err(Error::incomplete("tls.cert", "tls.key")),
            _ if self.server_name.as_deref() == Some("") => {
                Err(Error::config("tls.server_name", "", "must not be empty, leave it out"))
            }
            _ => Ok(()),
        }
    }
}

/// Certificates in PEM form, in a file or in memory. In configuration files a text that begins with
/// `-----BEGIN` is the certificates themselves, any other the path of their file.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Pem {
    /// In this file, read again at every connection.
    File(PathBuf),
    /// In memory.
    Text(String),
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<String> for Pem {
    fn from(text: String) -> Self {
        if text.trim_start().starts_with("-----BEGIN") { Self::Text(text) } else { Self::File(text.into()) }
    }
}

impl From<&str> for Pem {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Pem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => path.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Pem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
