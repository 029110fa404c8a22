//! From the configuration to agents and their clients.

#[cfg(unix)]
use std::path::PathBuf;
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::{
    BackendType, ClientCrate, ConnectionConfig, Error, Result, Secret, TlsConfig,
    backend::{Members, Skips, lock},
    key::{Endpoint, Service},
};

use crate::{
    client::{Client, Hold, Target, Token, is_sendable, serving},
    error,
    ledger::{Agent, Ledger},
};

const FIELD: &str = "backend_endpoints";
const DEFAULT_PORT: u16 = 8500;
const DEFAULT_PORT_TLS: u16 = 8501;
const ONLY_HTTP: &str = "consulrs speaks plain HTTP only here, use the client crate reqwest";

/// Blocking queries are held this long at most; then they are asked again, which tells a silent agent
/// from a quiet service.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The agents, the settings, and what outlives one connection: which records are registered where,
/// and what has been warned of.
#[derive(Debug)]
pub struct Connector {
    pub(crate) agents: Members<(Agent, Address)>,
    pub(crate) settings: ConnectionConfig,
    client_crate: ClientCrate,
    pub(crate) ledger: Ledger,
    skips: Mutex<HashMap<Service, Arc<Mutex<Skips>>>>,
}

impl Connector {
    /// Parses `backend_endpoints`: `http://host:port`, `https://host:port`, `host:port` or `host`, with
    /// 8500 as the default port, 8501 with TLS; or `unix:///path`. No I/O.
    ///
    /// # Errors
    /// Of kind [`Config`](discox_core::ErrorKind::Config), naming the field and the reason.
    pub fn parse(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        Self::parsed(backend_endpoints, settings).map_err(|error| error.on(BackendType::Consul))
    }

    fn parsed(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        settings.check(BackendType::Consul)?;
        check_credentials(settings)?;
        if backend_endpoints.is_empty() {
            return Err(Error::config(FIELD, "", "none given, use http://host:8500"));
        }
        let client_crate = serving(settings.client)?;
        let mut agents = Vec::new();
        for text in backend_endpoints {
            let address = Address::parse(text, settings.tls.as_ref())?;
            if client_crate == ClientCrate::Consulrs && !matches!(address, Address::Http(_)) {
                return Err(Error::config(FIELD, address, ONLY_HTTP));
            }
            agents.push((agents.len(), address));
        }
        Ok(Self {
            agents: Members::new(agents),
            settings: settings.clone(),
            client_crate,
            ledger: Ledger::default(),
            skips: Mutex::default(),
        })
    }

    /// A client of one agent, for which certificates and the token are read anew. Connects to nothing.
    pub(crate) fn client(&self, address: &Address) -> Result<Client> {
        let settings = &self.settings;
        let scope = [("ns", &settings.namespace), ("partition", &settings.partition)];
        let target = Target {
            address: address.clone(),
            tls: settings.tls.clone().unwrap_or_default(),
            token: Token::new(settings.token.clone()),
            scope: scope.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect(),
            connect_timeout: settings.connect_timeout,
            patience: settings.request_timeout,
            longest_list: settings.max_service_bytes,
        };
        let client = Client::new(target, self.client_crate);
        client.map_err(|fault| {
            error::translate(fault, settings).on(BackendType::Consul).at(address.to_string())
        })
    }

    /// An agent by its position.
    pub(crate) fn agent(&self, agent: Agent) -> Option<&Address> {
        self.agents.all().get(agent).map(|(_, address)| address)
    }

    /// How long requests are held: such that a silent agent is noticed within `detection`.
    pub(crate) fn hold(&self) -> Hold {
        let margin = self.settings.detection / 4;
        let wait = (self.settings.detection - margin) * 16 / 17;
        Hold { wait: wait.min(LONGEST_WAIT), margin }
    }

    /// What has been warned of, so that a reconnect does not warn again.
    pub(crate) fn skips(&self, service: &Service) -> Arc<Mutex<Skips>> {
        let new = || Arc::new(Mutex::new(Skips::new(BackendType::Consul, service.clone())));
        let mut skips = lock(&self.skips);
        skips.entry(service.clone()).or_insert_with(new).clone()
    }
}

/// Rejects what Consul cannot take for a token or a name.
fn check_credentials(settings: &ConnectionConfig) -> Result<()> {
    if let Some(token) = settings.token.as_ref().and_then(Secret::text)
        && !is_sendable(token)
    {
        return Err(Error::config("token", "…", "must be one word of plain ASCII"));
    }
    let ConnectionConfig { datacenter, namespace, partition, .. } = settings;
    for (field, value) in [("datacenter", datacenter), ("namespace", namespace), ("partition", partition)] {
        if value.as_deref() == Some("") {
            return Err(Error::config(field, "", "must not be empty, leave it out"));
        }
    }
    Ok(())
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (_, address)) in self.agents.all().iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

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
    fn parse(text: &str, tls: Option<&TlsConfig>) -> Result<Self> {
        let reject = |reason: &str| {
            // What stands before an @ may be a password.
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            Err(Error::config(FIELD, shown, reason))
        };
        let (secure, rest) = match text.split_once("://") {
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
        if Endpoint::parse(&host).is_err() {
            return reject("use http://host:8500, host:8500 or host, without a path");
        }
        if let Some(name) = tls.and_then(|tls| tls.server_name.as_deref()) {
            check_server_name(name)?;
        }
        Ok(if secure { Self::Https(host) } else { Self::Http(host) })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(endpoints: &[&str], settings: &ConnectionConfig) -> Result<Connector> {
        let endpoints: Vec<String> = endpoints.iter().map(|text| (*text).to_owned()).collect();
        Connector::parse(&endpoints, settings)
    }

    fn parse(endpoints: &[&str]) -> Result<Connector> {
        parse_with(endpoints, &ConnectionConfig::default())
    }

    fn with_tls(tls: TlsConfig) -> ConnectionConfig {
        ConnectionConfig { tls: Some(tls), ..Default::default() }
    }

    #[test]
    fn addresses_of_all_forms_are_read() {
        for (text, address) in [
            ("http://h:8501", "http://h:8501"),
            ("http://h/", "http://h:8500"),
            ("h:8501", "http://h:8501"),
            ("h", "http://h:8500"),
            ("127.0.0.1", "http://127.0.0.1:8500"),
            ("[::1]", "http://[::1]:8500"),
            ("http://[::1]:1", "http://[::1]:1"),
        ] {
            let connector = parse(&[text]).unwrap();
            assert_eq!(connector.to_string(), address);
            assert!(connector.client(connector.agent(0).unwrap()).is_ok());
        }
    }

    #[cfg(all(feature = "reqwest", unix))]
    #[test]
    fn addresses_with_tls_and_of_sockets_are_read() {
        let tls = with_tls(TlsConfig::default());
        for (text, settings, address) in [
            ("https://h", &ConnectionConfig::default(), "https://h:8501"),
            ("https://[::1]:1/", &tls, "https://[::1]:1"),
            ("h", &tls, "https://h:8501"),
            ("unix:///run/consul.sock", &ConnectionConfig::default(), "unix:///run/consul.sock"),
        ] {
            assert_eq!(parse_with(&[text], settings).unwrap().to_string(), address);
        }
    }

    #[test]
    fn bad_addresses_are_rejected_without_their_secrets() {
        assert_eq!(parse(&[]).unwrap_err().field(), Some(FIELD));
        for text in [
            "",
            "http://",
            "https://",
            "ftp://h",
            "h:0",
            "h:x",
            "h/path",
            "::1",
            "a b",
            "http://u:secret@h:1",
            "u:secret@h",
            "unix://consul.sock",
        ] {
            let error = parse(&["good", text]).unwrap_err();
            assert_eq!(error.field(), Some(FIELD), "{text:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for text in ["http://h", "unix:///run/consul.sock"] {
            let error = parse_with(&[text], &with_tls(TlsConfig::default())).unwrap_err();
            assert_eq!(error.field(), Some(FIELD), "{text:?} with tls");
        }
    }

    #[test]
    fn what_consul_cannot_take_is_rejected_by_field() {
        let empty = || Some(String::new());
        let named = |name: &str| with_tls(TlsConfig { server_name: Some(name.into()), ..Default::default() });
        for (field, settings) in [
            ("token", ConnectionConfig { token: Some("hunter2\n".into()), ..Default::default() }),
            ("token", ConnectionConfig { token: Some("".into()), ..Default::default() }),
            ("datacenter", ConnectionConfig { datacenter: empty(), ..Default::default() }),
            ("namespace", ConnectionConfig { namespace: empty(), ..Default::default() }),
            ("partition", ConnectionConfig { partition: empty(), ..Default::default() }),
            ("tls.server_name", named("10.0.0.1")),
            ("tls.server_name", named("a/b")),
        ] {
            let error = parse_with(&["h"], &settings).unwrap_err();
            assert_eq!(error.field(), Some(field));
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[cfg(feature = "consulrs")]
    #[test]
    fn consulrs_is_rejected_where_it_will_not_do() {
        let settings = ConnectionConfig { client: Some(ClientCrate::Consulrs), ..Default::default() };
        assert!(parse_with(&["http://h"], &settings).is_ok());
        let error = parse_with(&["https://h"], &settings).unwrap_err();
        assert_eq!(error.field(), Some(FIELD));
    }

    #[test]
    fn a_held_request_ends_within_detection() {
        for detection in [2, 5, 15, 60].map(Duration::from_secs) {
            let settings = ConnectionConfig { detection, ..Default::default() };
            let hold = Connector::parse(&["h".into()], &settings).unwrap().hold();
            assert!(
                hold.limit() <= detection && hold.wait <= LONGEST_WAIT && hold.wait >= Duration::from_secs(1)
            );
        }
    }
}
