//! Whom we trust, who we are, and what a refusal means.

use std::{fmt, sync::Arc};

use discox_core::{BackendType, ConnectionConfig, Denial, Error, Result};
use discox_tls::ClientConfig;
use zeroize::Zeroizing;

use crate::{address::Address, connect::Connector};

/// What the files hold at the moment of a connection.
pub(crate) struct Security {
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) login: Option<Login>,
}

/// Who we are to the servers.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
    /// By SASL DIGEST-MD5 rather than by the `digest` scheme.
    #[cfg_attr(
        not(feature = "zookeeper-client"),
        expect(dead_code, reason = "the other client has no SASL")
    )]
    pub(crate) sasl: bool,
}

impl Login {
    /// What the `digest` scheme takes.
    pub(crate) fn digest(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}:{}", self.user, *self.password))
    }
}

impl Security {
    /// Reads the files anew; blocks.
    pub(crate) fn read(settings: &ConnectionConfig) -> Result<Self> {
        let tls = settings.tls.as_ref().map(|tls| discox_tls::client_config(tls, &[])).transpose()?;
        let login = match (&settings.user, &settings.password) {
            (Some(user), Some(password)) => {
                Some(Login { user: user.clone(), password: password.read()?, sasl: settings.zookeeper.sasl })
            }
            _ => None,
        };
        Ok(Self { tls, login })
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").finish_non_exhaustive()
    }
}

/// Which files are read, for an error.
pub(crate) fn files(settings: &ConnectionConfig) -> String {
    let tls = settings.tls.as_ref().map(discox_tls::files);
    let password = settings.password.as_ref().map(|password| format!("`password` ({password:?})"));
    let all: Vec<_> = tls.into_iter().chain(password).collect();
    all.join(" or ")
}

/// Rejects what the client cannot do or would stumble over.
pub(crate) fn check(settings: &ConnectionConfig, address: &Address) -> Result<()> {
    let reject = |field, value: &str, reason: &str| {
        Err(Error::config(field, value, reason).with_backend(BackendType::Zookeeper))
    };
    if let Some(tls) = &settings.tls {
        for host in address.hosts() {
            match discox_tls::server_name(tls, host) {
                Err(error) if tls.server_name.is_some() => {
                    return Err(error.with_backend(BackendType::Zookeeper));
                }
                Err(_) => return reject("backend_endpoints", host, "no certificate can have such a name"),
                Ok(_) => {}
            }
        }
    }
    let separators: &[char] = if settings.zookeeper.sasl { &['"', '\\'] } else { &[':'] };
    match &settings.user {
        Some(user) if user.is_empty() => reject("user", user, "must not be empty, leave it out"),
        Some(user) if user.contains(separators) => reject("user", user, "must not contain any of : \" \\"),
        _ => Ok(()),
    }
}

impl Connector {
    /// What a refusal means to somebody with our credentials.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let is_known = self.settings.user.is_some();
        let has_certificate = self.settings.tls.as_ref().is_some_and(|tls| tls.cert.is_some());
        match error.denial() {
            Some(Denial::MissingRights) if !is_known && !has_certificate => {
                Error::denied(Denial::NoCredentials, "the node's ACL gives no right to do this to everybody")
            }
            Some(Denial::WrongCredentials) if !is_known => {
                Error::denied(Denial::NoCredentials, "the server lets in nobody without credentials")
            }
            Some(Denial::WrongCredentials) if !self.settings.zookeeper.sasl => Error::denied(
                Denial::WrongCredentials,
                "the server does not let in by the `digest` scheme: set `zookeeper.sasl`, if it knows the user that way",
            ),
            _ => error,
        }
    }
}
