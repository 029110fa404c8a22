//! From the configuration to agents and their clients.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::{
    BackendType, ClientCrate, ConnectionConfig, Error, Result, Secret,
    backend::{Files, Members, WarnOnce, lock},
    record::Service,
};

use crate::{
    address::{Address, FIELD},
    client::{Client, Hold, Target, Token, is_sendable, serving},
    error,
    placements::{Agent, Placements},
};

const ONLY_HTTP: &str = "consulrs speaks plain HTTP only here, use the client crate reqwest";

/// Blocking queries are held this long at most; then they are asked again, which tells a silent agent
/// from a quiet service.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What has been warned of is kept of all services that are watched, and of this many in all.
const SERVICES_WARNED_OF: usize = 1_000;

/// The agents, the settings, and what outlives one connection: which records are registered where,
/// and what has been warned of.
#[derive(Debug)]
pub struct Connector {
    pub(crate) agents: Members<(Agent, Address)>,
    pub(crate) settings: ConnectionConfig,
    client_crate: ClientCrate,
    pub(crate) token: Arc<Token>,
    files: Files,
    pub(crate) placements: Placements,
    skips: Mutex<HashMap<Service, Arc<Mutex<WarnOnce>>>>,
}

impl Connector {
    /// Parses `backend_endpoints`: `http://host:port`, `https://host:port`, `host:port` or `host`, with
    /// 8500 as the default port, 8501 with TLS; or `unix:///path`. No I/O.
    ///
    /// # Errors
    /// Of kind [`Config`](discox_core::ErrorKind::Config), naming the field and the reason.
    pub fn parse(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        Self::parsed(backend_endpoints, settings).map_err(|error| error.with_backend(BackendType::Consul))
    }

    fn parsed(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        settings.check(BackendType::Consul)?;
        check_credentials(settings)?;
        if backend_endpoints.is_empty() {
            return Err(Error::config(FIELD, "", "none given, use http://host:8500"));
        }
        let client_crate = serving(settings.consul.client)?;
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
            token: Arc::new(Token::new(settings.consul.token.clone(), settings.connect_timeout)),
            files: Files::new(settings.connect_timeout),
            placements: Placements::default(),
            skips: Mutex::default(),
        })
    }

    /// A client of one agent, for which certificates and the token are read anew. Connects to nothing.
    pub(crate) async fn client(&self, address: &Address) -> Result<Client> {
        self.token.refresh().await;
        let (target, client_crate) = (self.target(address), self.client_crate);
        let settings = self.settings.clone();
        let made =
            move || Client::new(target, client_crate).map_err(|fault| error::translate(fault, &settings));
        let client = self.files.read("`tls`", made).await;
        client.map_err(|error| error.with_backend(BackendType::Consul).with_address(address.to_string()))
    }

    fn target(&self, address: &Address) -> Target {
        let settings = &self.settings;
        let scope = [("ns", &settings.consul.namespace), ("partition", &settings.consul.partition)];
        Target {
            address: address.clone(),
            tls: settings.tls.clone().unwrap_or_default(),
            token: self.token.clone(),
            scope: scope.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect(),
            connect_timeout: settings.connect_timeout,
            patience: settings.request_timeout,
            longest_list: settings.max_service_bytes,
        }
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

    /// What has been warned of, so that a reconnect does not warn again. Of services that nobody watches any more it
    /// is forgotten when there are many.
    pub(crate) fn skips(&self, service: &Service) -> Arc<Mutex<WarnOnce>> {
        let new = || Arc::new(Mutex::new(WarnOnce::new(BackendType::Consul, service.clone())));
        let mut skips = lock(&self.skips);
        if skips.len() >= SERVICES_WARNED_OF && !skips.contains_key(service) {
            skips.retain(|_, skips| Arc::strong_count(skips) > 1);
        }
        skips.entry(service.clone()).or_insert_with(new).clone()
    }
}

/// Rejects what Consul cannot take for a token or a name.
fn check_credentials(settings: &ConnectionConfig) -> Result<()> {
    if let Some(token) = settings.consul.token.as_ref().and_then(Secret::text)
        && !is_sendable(token)
    {
        return Err(Error::config("consul.token", "…", "must be one word of plain ASCII"));
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

#[cfg(test)]
mod tests {
    use discox_core::{ConsulOptions, TlsConfig};

    use super::*;

    fn parse_with(endpoints: &[&str], settings: &ConnectionConfig) -> Result<Connector> {
        let endpoints: Vec<String> = endpoints.iter().map(|text| (*text).to_owned()).collect();
        Connector::parse(&endpoints, settings)
    }

    fn parse(endpoints: &[&str]) -> Result<Connector> {
        parse_with(endpoints, &ConnectionConfig::default())
    }

    fn with(consul: ConsulOptions) -> ConnectionConfig {
        ConnectionConfig { consul, ..Default::default() }
    }

    fn with_tls(tls: TlsConfig) -> ConnectionConfig {
        ConnectionConfig { tls: Some(tls), ..Default::default() }
    }

    #[tokio::test]
    async fn addresses_of_all_forms_are_read() {
        for (text, address) in [
            ("http://h:8501", "http://h:8501"),
            ("http://h/", "http://h:8500"),
            ("h:8501", "http://h:8501"),
            ("h", "http://h:8500"),
            ("127.0.0.1", "http://127.0.0.1:8500"),
            ("[::1]", "http://[::1]:8500"),
            ("http://[::1]:1", "http://[::1]:1"),
            ("HTTP://h", "http://h:8500"),
            ("consul.svc.cluster.local.", "http://consul.svc.cluster.local.:8500"),
            ("http://consul.svc.:80/", "http://consul.svc.:80"),
        ] {
            let connector = parse(&[text]).unwrap();
            assert_eq!(connector.to_string(), address);
            assert!(connector.client(connector.agent(0).unwrap()).await.is_ok());
        }
    }

    #[cfg(all(feature = "reqwest", unix))]
    #[test]
    fn addresses_with_tls_and_of_sockets_are_read() {
        let tls = with_tls(TlsConfig::default());
        for (text, settings, address) in [
            ("https://h", &ConnectionConfig::default(), "https://h:8501"),
            ("HTTPS://consul.svc.", &ConnectionConfig::default(), "https://consul.svc.:8501"),
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
            ".",
            "a..",
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
            ("consul.token", with(ConsulOptions { token: Some("hunter2\n".into()), ..Default::default() })),
            ("consul.token", with(ConsulOptions { token: Some("".into()), ..Default::default() })),
            ("consul.datacenter", with(ConsulOptions { datacenter: empty(), ..Default::default() })),
            ("consul.namespace", with(ConsulOptions { namespace: empty(), ..Default::default() })),
            ("consul.partition", with(ConsulOptions { partition: empty(), ..Default::default() })),
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
        let settings = with(ConsulOptions { client: Some(ClientCrate::Consulrs), ..Default::default() });
        assert!(parse_with(&["http://h"], &settings).is_ok());
        let error = parse_with(&["https://h"], &settings).unwrap_err();
        assert_eq!(error.field(), Some(FIELD));
    }

    #[test]
    fn of_services_that_nobody_watches_no_warnings_are_kept_for_ever() {
        let connector = parse(&["h"]).unwrap();
        let service = |number: usize| Service::parse("", &format!("s{number}")).unwrap();
        let watched: Vec<_> = (0..10).map(|number| connector.skips(&service(number))).collect();
        for number in 0..3 * SERVICES_WARNED_OF {
            connector.skips(&service(number));
        }
        assert!(lock(&connector.skips).len() <= SERVICES_WARNED_OF);
        let kept = |number: usize| Arc::ptr_eq(&connector.skips(&service(number)), &watched[number]);
        assert!((0..watched.len()).all(kept));
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
