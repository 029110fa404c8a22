//! Why the registry refused us, or we refused it.

use std::fmt;

/// What exactly was refused, with an error of kind [`Denied`](crate::ErrorKind::Denied).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Denial {
    /// The registry wants credentials, and none are configured.
    NoCredentials,
    /// The registry does not know the user, password or token.
    WrongCredentials,
    /// The credentials were good once.
    ExpiredCredentials,
    /// The credentials are good, and may not do this.
    MissingRights,
    /// The server's certificate was issued by nobody whom we trust.
    UnknownAuthority,
    /// The server's certificate has other names.
    WrongServerName,
    /// The server's certificate has expired, or is not valid yet.
    ExpiredCertificate,
    /// The server wants a client certificate, and none is configured.
    NoClientCertificate,
    /// The server does not accept our client certificate: of another authority, expired or revoked.
    ClientCertificateRefused,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoCredentials => "no credentials",
            Self::WrongCredentials => "wrong credentials",
            Self::ExpiredCredentials => "expired credentials",
            Self::MissingRights => "missing rights",
            Self::UnknownAuthority => "unknown authority",
            Self::WrongServerName => "wrong server name",
            Self::ExpiredCertificate => "expired certificate",
            Self::NoClientCertificate => "no client certificate",
            Self::ClientCertificateRefused => "client certificate refused",
        })
    }
}

impl Denial {
    /// What to change.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NoCredentials => "set `user` and `password`, or `consul.token`",
            Self::WrongCredentials => "check `user` and `password`, or `consul.token`",
            Self::ExpiredCredentials => "renew the credentials",
            Self::MissingRights => "grant the rights that the documentation of the backend lists",
            Self::UnknownAuthority => "set `tls.ca` to the authority that issued the server's certificate",
            Self::WrongServerName => "set `tls.server_name`, or use an address that the certificate names",
            Self::ExpiredCertificate => "renew the server's certificate, or set the clock",
            Self::NoClientCertificate => "set `tls.cert` and `tls.key`",
            Self::ClientCertificateRefused => "use a `tls.cert` that the server trusts and that is valid",
        }
    }
}
