//! The registry as a program uses it: log-in, and the rights to read, write and delete, by a record of our own.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use discox::{
    BackendType, DiscoverConfig, Error, ErrorKind, LiteEndpoint, Register, RegisterConfig, RegistryConfig,
    Watching,
};
use tokio::time::timeout;

use super::{
    member::denied,
    report::{Check, Outcome, Report},
};

/// Nobody can be reached there (RFC 5737, TEST-NET-1).
const ENDPOINT: &str = "192.0.2.1:9";

/// The record outlives us by this, if we are killed: the shortest that all registries grant.
const TTL: Duration = Duration::from_secs(5);

/// The service of our own record: beside the service in question, for rights that go by the beginning of a name.
pub(crate) fn throw_away(config: &DiscoverConfig) -> DiscoverConfig {
    let service = &config.service_name;
    let service_name =
        if service.is_empty() { "discox-doctor".to_owned() } else { format!("{service}-doctor") };
    DiscoverConfig { service_name, ..config.clone() }
}

/// Checks what may be done, in the order in which a program does it.
pub(crate) async fn examine(
    config: &DiscoverConfig,
    patient: &Patient,
    is_reachable: bool,
    report: &mut Report,
) -> io::Result<()> {
    let of = |config: &DiscoverConfig| {
        format!("{}/{}", config.discover_prefix.trim_end_matches('/'), config.service_name)
    };
    let own = throw_away(config);
    let asked = if config.service_name.is_empty() { &own } else { config };
    let read = if is_reachable {
        patient.read(asked, &of(asked), !config.service_name.is_empty()).await
    } else {
        vec![Check::skipped("log-in", of(asked), "no member can be reached")]
    };
    let has_logged_in = read.iter().any(|check| check.name == "log-in" && check.outcome == Outcome::Ok);
    report.add(read)?;
    if has_logged_in {
        patient.write(&own, &of(&own), report).await
    } else {
        report.add(["write", "delete"].map(|name| Check::skipped(name, of(&own), "see above")))
    }
}

/// One connection for all of it.
pub(crate) struct Patient {
    registry: Arc<dyn discox::Registry>,
    limit: Duration,
}

impl Patient {
    /// No I/O.
    pub(crate) fn connect(config: &DiscoverConfig) -> Result<Self, Error> {
        let mut connection = config.connection.clone();
        if config.backend_type == BackendType::Zookeeper {
            // The session is begun before anything is registered: our record ends with it.
            connection.zookeeper.session_timeout.get_or_insert(TTL);
        }
        #[allow(clippy::needless_update, reason = "whatever else there will be has its default")]
        let wanted = RegistryConfig {
            backend_type: config.backend_type,
            backend_endpoints: config.backend_endpoints.clone(),
            discover_prefix: config.discover_prefix.clone(),
            connection,
            ..RegistryConfig::default()
        };
        let registry = discox::connect(wanted)?;
        Ok(Self { registry, limit: config.connection.connect_timeout + config.connection.request_timeout })
    }

    /// Ends the connection. What we have in the registry is removed.
    pub(crate) async fn close(&self) {
        self.registry.close().await;
    }

    /// The log-in, and the right to read.
    async fn read(&self, config: &DiscoverConfig, of: &str, expects_some: bool) -> Vec<Check> {
        let watching = match self.registry.watch(config.clone()) {
            Ok(watching) => watching,
            Err(error) => return vec![denied("read", of, &error)],
        };
        let began = Instant::now();
        let answer = refused_or_ready(&watching, self.limit).await;
        let took = began.elapsed();
        let endpoints = watching.len();
        watching.stop().await;
        match answer {
            Ok(()) => {
                let found = format!("{endpoints} endpoints in {took:.1?}");
                let read = if endpoints > 0 || !expects_some {
                    Check::ok("read", of, found)
                } else {
                    let advice = "if there should be some, check --prefix and --service";
                    Check::warning("read", of, format!("nothing is registered there, {found}"), advice)
                };
                vec![Check::ok("log-in", of, self.who(config)), read]
            }
            Err(error) if error.operation() == Some("connect") || is_login(&error) => {
                vec![denied("log-in", of, &error), Check::skipped("read", of, "see above")]
            }
            Err(error) => vec![Check::ok("log-in", of, self.who(config)), denied("read", of, &error)],
        }
    }

    fn who(&self, config: &DiscoverConfig) -> String {
        let connection = &config.connection;
        match (config.backend_type, &connection.user) {
            (_, Some(user)) => format!("as {user}"),
            (BackendType::Consul, None) if connection.consul.token.is_some() => "with the token".to_owned(),
            _ if connection.tls.as_ref().is_some_and(|tls| tls.cert.is_some()) => {
                "by our certificate".to_owned()
            }
            _ => "without credentials".to_owned(),
        }
    }

    /// Writes a record, sees it, and removes it.
    async fn write(&self, config: &DiscoverConfig, of: &str, report: &mut Report) -> io::Result<()> {
        let register = self.registry.register(RegisterConfig {
            service_name: config.service_name.clone(),
            service_endpoint: ENDPOINT.into(),
            attr: "discox doctor".into(),
            heart_beat_period: Duration::from_secs(1),
            ttl: Some(TTL),
            ..RegisterConfig::default()
        });
        let started = match &register {
            Ok(register) => register.start().await,
            Err(error) => Err(error.clone()),
        };
        match (register, started) {
            (Ok(register), Ok(())) => {
                report.add([Check::ok("write", of, format!("registered {ENDPOINT}"))])?;
                report.add(ttl(&*register, of))?;
                report.add([self.round_trip(&*register, config, of).await])?;
                let withdrawn = register.stop().await;
                report.add([match withdrawn {
                    Ok(()) => Check::ok("delete", of, "deregistered"),
                    Err(error) => denied("delete", of, &error),
                }])
            }
            // What was begun is undone by the end of the connection, or by the TTL.
            (_, Err(error)) => {
                report.add([denied("write", of, &error), Check::skipped("delete", of, "see above")])
            }
            (Err(error), Ok(())) => report.add([denied("write", of, &error)]),
        }
    }

    /// How long a change takes to be acknowledged, and to be seen by a discovery.
    async fn round_trip(&self, register: &dyn Register, config: &DiscoverConfig, of: &str) -> Check {
        let watching = match self.registry.watch(config.clone()) {
            Ok(watching) => watching,
            Err(error) => return denied("round trip", of, &error),
        };
        let seen = async {
            watching.wait_for(1).await;
            let began = Instant::now();
            register.update_attr("discox doctor was here").await?;
            let acknowledged = began.elapsed();
            let mut changes = watching.changes();
            changes
                .wait_for(|snapshot| snapshot.attr(ENDPOINT).is_some_and(|attr| attr.ends_with(b"here")))
                .await;
            Ok::<_, Error>((acknowledged, began.elapsed()))
        };
        let answer = timeout(self.limit, seen).await;
        watching.stop().await;
        match answer {
            Ok(Ok((acknowledged, seen))) => Check::ok(
                "round trip",
                of,
                format!("a change is acknowledged in {acknowledged:.1?}, and seen in {seen:.1?}"),
            ),
            Ok(Err(error)) => denied("round trip", of, &error),
            Err(_) => {
                let found =
                    format!("the record was written, and not seen by a discovery within {:?}", self.limit);
                Check::failed(
                    "round trip",
                    of,
                    found,
                    "check the right to read there, and whether the registry is overloaded",
                )
            }
        }
    }
}

/// How long the record outlives its process.
fn ttl(register: &dyn Register, of: &str) -> Option<Check> {
    let granted = register.status().granted_ttl?;
    Some(if granted <= TTL {
        Check::ok("ttl", of, format!("{TTL:?} were asked for, {granted:?} were granted"))
    } else {
        let found = format!(
            "{TTL:?} were asked for, {granted:?} were granted: that is how long a dead endpoint is seen at least"
        );
        Check::ok("ttl", of, found)
    })
}

/// Whether it is said of who we are, rather than of what we may do.
fn is_login(error: &Error) -> bool {
    use discox::Denial::{ExpiredCredentials, NoCredentials, WrongCredentials};
    matches!(error.denial(), Some(ExpiredCredentials | NoCredentials | WrongCredentials))
}

/// Waits for the list, and no longer than until it is refused.
async fn refused_or_ready(watching: &Watching, limit: Duration) -> Result<(), Error> {
    /// Between two looks.
    const PAUSE: Duration = Duration::from_millis(50);

    let endpoints: &LiteEndpoint = watching;
    let refused = async {
        loop {
            let last = watching.status().last_error;
            if let Some(error) =
                last.filter(|error| matches!(error.kind(), ErrorKind::Denied | ErrorKind::Config))
            {
                return error;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        () = endpoints.ready() => Ok(()),
        error = refused => Err(error),
        () = tokio::time::sleep(limit) => {
            let last = watching.status().last_error;
            Err(last.unwrap_or_else(|| Error::timed_out("connect", limit)))
        }
    }
}
