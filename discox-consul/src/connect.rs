//! From the configuration to agents and their clients.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discox_core::{
    BackendType, ClientCrate, ConnectionConfig, Error, Result,
    backend::{Members, Skips},
    key::{Endpoint, Service},
};

use crate::{
    client::{Client, Hold, Target, serving},
    error,
    ledger::{Agent, Ledger},
};

const FIELD: &str = "backend_endpoints";
const DEFAULT_PORT: u16 = 8500;

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
    /// Parses `backend_endpoints`: `http://host:port`, `host:port` or `host`, with 8500 as the default
    /// port. No I/O.
    ///
    /// # Errors
    /// Of kind [`Config`](discox_core::ErrorKind::Config), naming the field and the reason.
    pub fn parse(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        if backend_endpoints.is_empty() {
            let reason = "none given, use http://host:8500";
            return Err(Error::config(FIELD, "", reason).on(BackendType::Consul));
        }
        let agents: Vec<_> =
            backend_endpoints.iter().map(|text| Address::parse(text)).collect::<Result<_>>()?;
        Ok(Self {
            agents: Members::new(agents.into_iter().enumerate().collect()),
            client_crate: serving(settings.client).map_err(|error| error.on(BackendType::Consul))?,
            settings: settings.clone(),
            ledger: Ledger::default(),
            skips: Mutex::default(),
        })
    }

    /// A client of one agent. No I/O. This is where TLS and tokens will come in.
    pub(crate) fn client(&self, address: &Address) -> Result<Client> {
        let target = Target {
            base: address.to_string(),
            connect_timeout: self.settings.connect_timeout,
            patience: self.settings.request_timeout,
            longest_list: self.settings.max_service_bytes,
        };
        let client = Client::new(target, self.client_crate);
        client.map_err(|fault| error::translate(fault).on(BackendType::Consul).at(address.to_string()))
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
        let mut skips = self.skips.lock().unwrap_or_else(PoisonError::into_inner);
        skips.entry(service.clone()).or_insert_with(new).clone()
    }
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (_, address)) in self.agents.all().iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Where an agent's HTTP interface is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    /// With its port.
    host: String,
}

impl Address {
    fn parse(text: &str) -> Result<Self> {
        let reject = |reason: &str| {
            // What stands before an @ may be a password.
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            Err(Error::config(FIELD, shown, reason).on(BackendType::Consul))
        };
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return reject("https is not supported yet, use http://host:8500"),
            Some(_) => return reject("use http://host:8500"),
            None => text,
        };
        if rest.contains('@') {
            return reject("user and password are not allowed in an address");
        }
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host = if has_port { host.to_owned() } else { format!("{host}:{DEFAULT_PORT}") };
        match Endpoint::parse(&host) {
            Ok(_) => Ok(Self { host }),
            Err(_) => reject("use http://host:8500, host:8500 or host, without a path"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(endpoints: &[&str]) -> Result<Connector> {
        let endpoints: Vec<String> = endpoints.iter().map(|text| (*text).to_owned()).collect();
        Connector::parse(&endpoints, &ConnectionConfig::default())
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

    #[test]
    fn bad_addresses_are_rejected_without_their_secrets() {
        assert_eq!(parse(&[]).unwrap_err().field(), Some(FIELD));
        for text in [
            "",
            "http://",
            "ftp://h",
            "https://h",
            "h:0",
            "h:x",
            "h/path",
            "::1",
            "a b",
            "http://u:secret@h:1",
            "u:secret@h",
        ] {
            let error = parse(&["good", text]).unwrap_err();
            assert_eq!(error.field(), Some(FIELD), "{text:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
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
