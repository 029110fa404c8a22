//! Whom we trust, who we are, and what a refusal means.

use std::{fmt, io};

use discox_core::{BackendType, ConnectionConfig, Denial, Error, ErrorKind, Result, TlsConfig};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{address::Address, connect::Connector};

/// What a server answers to anybody and without a quorum, if only to say that it may not. One byte
/// longer than it takes, so that a server that waits for TLS sees that it is none.
const HELLO: &[u8] = b"srvr\n";

/// What the files hold at the moment of a connection.
pub(crate) struct Security {
    #[cfg_attr(not(feature = "zookeeper-client"), expect(dead_code, reason = "the other client has no TLS"))]
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Option<Login>,
}

/// As PEM, for clients that take nothing else.
#[cfg_attr(not(feature = "zookeeper-client"), expect(dead_code, reason = "the other client has no TLS"))]
pub(crate) struct Tls {
    pub(crate) roots: String,
    /// Certificate and key.
    pub(crate) identity: Option<(String, Zeroizing<String>)>,
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
    /// Reads the files anew.
    pub(crate) fn read(settings: &ConnectionConfig) -> Result<Self> {
        let tls = settings.tls.as_ref().map(Tls::read).transpose()?;
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

impl Tls {
    fn read(tls: &TlsConfig) -> Result<Self> {
        // Says of every file whether it is what it should be; the client would not.
        discox_tls::client_config(tls, &[])?;
        let identity = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => Some((discox_tls::read_pem("tls.cert", cert)?, key.read()?)),
            _ => None,
        };
        Ok(Self { roots: discox_tls::roots_pem(tls)?, identity })
    }
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
    /// Why nobody has let us in. The client does not tell what is wrong with TLS: that is asked anew.
    pub(crate) async fn why_refused(&self, error: Error) -> Error {
        if let Some(tls) = &self.settings.tls
            && error.kind() != ErrorKind::Denied
            && let Some(error) = self.probe(tls).await
        {
            return error;
        }
        self.explain(error)
    }

    /// Shakes hands with all members, and tells of the one that refuses us or whom we refuse.
    async fn probe(&self, tls: &TlsConfig) -> Option<Error> {
        let limit = self.settings.connect_timeout;
        let probes = self.address.members.iter().map(|member| async move {
            let error = timeout(limit, probe(tls, member)).await.ok()?.err()?;
            // A server that knows no TLS hangs up, as others do on whom they do not trust.
            let plain =
                timeout(limit, speaks_plain_text(member)).await.is_ok_and(|plain| plain.is_ok_and(|is| is));
            let error = if plain { not_secure() } else { error };
            Some(error.with_backend(BackendType::Zookeeper).with_address(member))
        });
        let (denied, others): (Vec<_>, Vec<_>) =
            join_all(probes).await.into_iter().flatten().partition(|error| error.kind() == ErrorKind::Denied);
        let telling = others.into_iter().filter(|error| error.kind() == ErrorKind::Protocol);
        denied.into_iter().chain(telling).next()
    }

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

async fn probe(tls: &TlsConfig, member: &str) -> Result<()> {
    let unreachable = |error: io::Error| Error::new(ErrorKind::Unavailable, error.to_string());
    let stream = TcpStream::connect(member).await.map_err(unreachable)?;
    let config = discox_tls::client_config(tls, &[])?;
    discox_tls::probe(tls, config, Address::host(member), stream, HELLO).await
}

fn not_secure() -> Error {
    Error::new(ErrorKind::Protocol, "the server speaks no TLS here: is this its secure client port?")
}

async fn speaks_plain_text(member: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(member).await?;
    stream.write_all(HELLO).await?;
    Ok(stream.read_u8().await?.is_ascii_alphabetic())
}
