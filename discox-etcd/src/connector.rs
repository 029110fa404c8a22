//! Addresses and settings, parsed, and what outlives one connection.

use std::{
    sync::{Once, OnceLock},
    time::Duration,
};

use discox_core::{
    BackendType, ConnectionConfig, Error, Result, TlsConfig,
    backend::{Files, Members},
};
use tonic::transport::{Endpoint, Uri};

use crate::client::{dial, leases::Leases};

/// etcd closes connections that ping more often than every 5 s (`--grpc-keepalive-min-time`).
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(4);

/// What one stream may send ahead of its reader: enough for a list to fill a fast network, little
/// enough for a thousand watches whose readers are slow.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// What all streams together may send ahead. A thousand stalled ones must not hold up the next.
const CONNECTION_WINDOW: u32 = 1024 * 1024 * 1024;

/// The longest page of a list that is taken. A page of longer records is asked for again with fewer of
/// them. Nothing but empty records takes 40 times as much memory once it is decoded.
pub(crate) const LONGEST_PAGE: usize = 8 * 1024 * 1024;

/// The longest other answer that is taken: etcd's longest request, of which the fragments of a watch
/// are made, is 1.5 MiB by default. It is also what the client takes about leases.
pub(crate) const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// Where etcd is, and what outlives one connection to it.
#[derive(Debug)]
pub struct Connector {
    pub(crate) members: Members<Member>,
    pub(crate) settings: ConnectionConfig,
    pub(crate) leases: Leases,
    /// What a probe asks for: a key that we may read.
    pub(crate) probe_key: OnceLock<String>,
    pub(crate) files: Files,
    /// Health checks were said to be ignored.
    pub(crate) told_checks: Once,
    /// Authentication was said to be switched off.
    pub(crate) told_auth_off: Once,
}

/// One member of the cluster.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) address: String,
    pub(crate) uri: Uri,
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Option<TlsConfig>,
}

impl Connector {
    /// Parses the addresses of one or several members: `http://host:port`, `https://host:port` or
    /// `host:port`, which is the latter where `tls` is set. No I/O; host names are resolved, and files of
    /// certificates and secrets read, at each connection.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](discox_core::ErrorKind::Config), naming the address and what is wrong
    /// with it.
    pub fn parse(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        settings.check(BackendType::Etcd)?;
        if backend_endpoints.is_empty() {
            return Err(Error::config(FIELD, "", "must not be empty, use http://host:port")
                .with_backend(BackendType::Etcd));
        }
        let members =
            backend_endpoints.iter().map(|text| Member::parse(text, settings)).collect::<Result<_>>()?;
        Ok(Self {
            members: Members::new(members),
            settings: settings.clone(),
            leases: Leases::default(),
            probe_key: OnceLock::new(),
            // A member has `connect_timeout`: an error must come before that, to name the file.
            files: Files::new(settings.connect_timeout / 2),
            told_checks: Once::new(),
            told_auth_off: Once::new(),
        })
    }

    /// The members' addresses.
    pub(crate) fn place(&self) -> String {
        let addresses: Vec<&str> = self.members.all().iter().map(|member| member.address.as_str()).collect();
        addresses.join(",")
    }

    /// Whether we show a certificate.
    pub(crate) fn identified(&self) -> bool {
        self.settings.tls.as_ref().is_some_and(|tls| tls.cert.is_some())
    }
}

const FIELD: &str = "backend_endpoints";

impl Member {
    fn parse(text: &str, settings: &ConnectionConfig) -> Result<Self> {
        let reject = |reason| {
            Err(Error::config(FIELD, without_userinfo(text), reason).with_backend(BackendType::Etcd))
        };
        let usual = if settings.tls.is_some() { "https" } else { "http" };
        let (scheme, rest) = text.split_once("://").unwrap_or((usual, text));
        let tls = match scheme {
            "http" if settings.tls.is_some() => {
                return reject("http is plain text, and `tls` is set: use https://host:port");
            }
            "http" => None,
            "https" => Some(settings.tls.clone().unwrap_or_default()),
            _ => return reject("unknown scheme, use http://host:port or https://host:port"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return reject("user and password do not belong in an address, use host:port");
        }
        if authority.contains(['/', '?', '#']) {
            return reject("an address has no path, use http://host:port");
        }
        let address = format!("{scheme}://{authority}");
        let Ok(uri) = address.parse::<Uri>() else {
            return reject("use http://host:port or host:port");
        };
        let Some(host) = uri.host().filter(|host| !host.is_empty() && uri.port_u16() > Some(0)) else {
            return reject("a host and a port of 1..=65535 are needed, use http://host:port");
        };
        if let Some(tls) = &tls {
            discox_tls::server_name(tls, host).map_err(|error| error.with_backend(BackendType::Etcd))?;
        }
        let endpoint =
            dial::endpoint(uri.clone()).map_err(|_| Error::config(FIELD, authority, "not an address"))?;
        Ok(Self { address, uri, endpoint: tuned(endpoint, settings), tls })
    }
}

fn tuned(endpoint: Endpoint, settings: &ConnectionConfig) -> Endpoint {
    endpoint
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        // Without a stream etcd takes pings for an attack.
        .keep_alive_while_idle(false)
}

/// The address for an error message: whatever stands before an `@` may be a secret.
fn without_userinfo(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use discox_core::ErrorKind;

    use super::*;

    fn parse(text: &str) -> Result<Connector> {
        Connector::parse(&[text.to_owned()], &ConnectionConfig::default())
    }

    #[test]
    fn addresses_of_all_forms_are_read() {
        for (text, place) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("http://etcd-1.example.org:2379/", "http://etcd-1.example.org:2379"),
            ("[::1]:2379", "http://[::1]:2379"),
            ("localhost:2379", "http://localhost:2379"),
        ] {
            assert_eq!(parse(text).unwrap().place(), place);
        }
    }

    #[test]
    fn bad_addresses_are_rejected_by_field() {
        for text in [
            "",
            "http://",
            "etcd",
            "etcd:",
            ":2379",
            "etcd:0",
            "etcd:65536",
            "etcd:x",
            "ftp://etcd:2379",
            "http://etcd:2379/path",
            "http://etcd:2379?a=b",
            "http://etcd:2379#a",
            "a b:2379",
            "http://a:1,http://b:2",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(FIELD)), "{text:?}");
        }
        let none = Connector::parse(&[], &ConnectionConfig::default()).unwrap_err();
        assert_eq!(none.field(), Some(FIELD));
    }

    #[test]
    fn tls_is_asked_for_by_address_or_by_setting_and_never_half() {
        let settings = ConnectionConfig { tls: Some(TlsConfig::default()), ..Default::default() };
        let parse = |text: &str| Connector::parse(&[text.to_owned()], &settings);
        assert_eq!(parse("etcd:2379").unwrap().place(), "https://etcd:2379");
        assert_eq!(parse("http://etcd:2379").unwrap_err().field(), Some(FIELD));
        let plain = Connector::parse(&["https://[::1]:2379".to_owned()], &ConnectionConfig::default());
        assert_eq!(plain.unwrap().place(), "https://[::1]:2379");
        let tls = TlsConfig { server_name: Some("no name".into()), ..Default::default() };
        let settings = ConnectionConfig { tls: Some(tls), ..Default::default() };
        let error = Connector::parse(&["etcd:2379".to_owned()], &settings).unwrap_err();
        assert_eq!(error.field(), Some("tls.server_name"));
    }

    #[test]
    fn credentials_in_an_address_are_rejected_and_not_shown() {
        let error = parse("http://root:secret@etcd:2379").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        assert!(error.to_string().contains("etcd:2379"));
    }
}
