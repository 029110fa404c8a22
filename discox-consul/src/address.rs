//! Where an agent is: the forms of `backend_endpoints`.

#[cfg(unix)]
use std::path::PathBuf;
use std::{fmt, net::IpAddr};

use discox_core::{Error, Result, TlsConfig, record::Endpoint};

/// The field of the configuration that has the addresses.
pub(crate) const FIELD: &str = "backend_endpoints";
const DEFAULT_PORT: u16 = 8500;
const DEFAULT_PORT_TLS: u16 = 8501;

/// Where an agent's HTTP interface is. A host has its port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    Http(String),
    Https(String),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Address {
    /// `tls` is what is configured: without a scheme it decides.
    pub(crate) fn parse(text: &str, tls: Option<&TlsConfig>) -> Result<Self> {
        let reject = |reason: &str| {
            // What stands before an @ may be a password.
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            Err(Error::config(FIELD, shown, reason))
        };
        let lower_case = text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        let (secure, rest) = match lower_case.as_ref().map(|(scheme, rest)| (scheme.as_str(), *rest)) {
            Some(("http", _)) if tls.is_some() => return reject("`tls` is set, use https://"),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(("unix", _)) if tls.is_some() => {
                return reject("`tls` is set, and is not for a Unix socket");
            }
            Some(("unix", path)) if !path.starts_with('/') => return reject("use unix:///path/of/socket"),
            #[cfg(unix)]
            Some(("unix", path)) => return Ok(Self::Unix(path.into())),
            Some(_) => return reject("use http://host:8500, https://host:8501 or unix:///path"),
            None => (tls.is_some(), text),
        };
        if rest.contains('@') {
            return reject("user and password are not allowed in an address");
        }
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let default_port = if secure { DEFAULT_PORT_TLS } else { DEFAULT_PORT };
        let host = if has_port { host.to_owned() } else { format!("{host}:{default_port}") };
        if Endpoint::parse(&without_trailing_dot(&host)).is_err() {
            return reject("use http://host:8500, host:8500 or host, without a path");
        }
        if let Some(name) = tls.and_then(|tls| tls.server_name.as_deref()) {
            check_server_name(name)?;
        }
        Ok(if secure { Self::Https(host) } else { Self::Http(host) })
    }
}

/// Kubernetes writes absolute names so: `consul.default.svc.cluster.local.`
fn without_trailing_dot(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) => format!("{}:{port}", name.strip_suffix('.').unwrap_or(name)),
        None => host.to_owned(),
    }
}

/// It stands in the host's place in what is asked for, so that it must be a name that can be looked up.
fn check_server_name(name: &str) -> Result<()> {
    match Endpoint::parse(&format!("{name}:{DEFAULT_PORT}")) {
        Ok(_) if name.parse::<IpAddr>().is_err() => Ok(()),
        _ => Err(Error::config("tls.server_name", name, "not a DNS name, which is what Consul's must be")),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(host) => write!(f, "http://{host}"),
            Self::Https(host) => write!(f, "https://{host}"),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}
