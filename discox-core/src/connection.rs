//! How a connection to the registry is made, kept and secured.

use std::time::Duration;

use crate::{BackendType, ClientCrate, Error, Result, Secret, TlsConfig};

/// How the connection to the registry is made and kept. The defaults suit a data centre.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ConnectionConfig {
    /// The longest wait for one member to accept a connection. Default 2 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub connect_timeout: Duration,
    /// The longest wait for one answer, and for `start` and `stop` of a registration. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub request_timeout: Duration,
    /// A server that accepts but does not answer is given up within this time; where there are
    /// several members, within half of the shortest TTL registered if that is less. Default 15 s, at
    /// least 2 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub detection: Duration,
    /// The first pause between two attempts; it doubles, with jitter. Default 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub backoff_initial: Duration,
    /// The longest pause between two attempts to reach the registry. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub backoff_max: Duration,
    /// The longest pause between two attempts that the registry refuses. Default 30 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub denied_backoff_max: Duration,
    /// ZooKeeper only: the session timeout of a connection that registers nothing yet, or several
    /// records with different TTLs. Default: what the first registration asks for, else 15 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub session_timeout: Option<Duration>,
    /// The most endpoints that are taken from the registry for one service. Default 100,000. A list
    /// with more is refused with [`TooLarge`](crate::ErrorKind::TooLarge), and the last known endpoints
    /// stay. A cache may hold twice as many: what is missing after an outage is held for a while.
    pub max_endpoints: usize,
    /// The most bytes that are taken from the registry for one service, names and attrs together; of
    /// Consul the whole answer, some 1,700 bytes for each instance. Default 64 MiB, at least 2 MiB.
    /// Beyond it as beyond `max_endpoints`.
    pub max_service_bytes: usize,
    /// TLS to the registry; none is plain text, but for `https://` addresses, which use the default
    /// [`TlsConfig`]. Not for `memory`.
    pub tls: Option<TlsConfig>,
    /// etcd and ZooKeeper: who we are, with `password`.
    pub user: Option<String>,
    /// etcd and ZooKeeper: the password of `user`.
    pub password: Option<Secret>,
    /// ZooKeeper only: prove `user` and `password` by SASL DIGEST-MD5 rather than by the `digest` scheme.
    pub sasl: bool,
    /// ZooKeeper only: the ACL of what we create, each entry as in ZooKeeper's own shell,
    /// `scheme:id:permissions`, such as `auth::cdrwa`, `world:anyone:r` or `ip:10.0.0.0/8:cdrwa`.
    /// Default: with credentials `world:anyone:r` and `auth::cdrwa`, else `world:anyone:cdrwa`.
    pub acl: Vec<String>,
    /// ZooKeeper only: whoever may delete a record is decided by the ACL of the service's node, which
    /// is open by default, so that any registrar can register there. True gives it the ACL of the
    /// records, so that only the owner of that credential can register, and delete, there.
    pub lock_service: bool,
    /// ZooKeeper only: look at whatever a server sends before the client crate does, so that one that means no good
    /// cannot fill the memory (a longer answer than `max_service_bytes` and `max_endpoints` allow is refused with
    /// [`TooLarge`](crate::ErrorKind::TooLarge)). It goes through two more sockets of this process for that, on the
    /// loopback, which takes time. Default: only with [`TlsConfig::server_name`], and with `user` over TLS, which need
    /// that as well.
    pub guard: bool,
    /// Consul only: the ACL token.
    pub token: Option<Secret>,
    /// Consul only: the datacenter to ask, if not the agent's own. Registrations are with the agent.
    pub datacenter: Option<String>,
    /// Consul Enterprise only: the namespace.
    pub namespace: Option<String>,
    /// Consul Enterprise only: the admin partition.
    pub partition: Option<String>,
    /// Which client crate serves, where several are compiled in. Default: `zookeeper-client`, `reqwest`.
    pub client: Option<ClientCrate>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            detection: Duration::from_secs(15),
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            denied_backoff_max: Duration::from_secs(30),
            session_timeout: None,
            max_endpoints: 100_000,
            max_service_bytes: 64 << 20,
            tls: None,
            user: None,
            password: None,
            sasl: false,
            acl: Vec::new(),
            lock_service: false,
            guard: false,
            token: None,
            datacenter: None,
            namespace: None,
            partition: None,
            client: None,
        }
    }
}

impl ConnectionConfig {
    /// Rejects what cannot work and what `backend` does not know, before any I/O.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the field and the reason.
    pub fn check(&self, backend: BackendType) -> Result<()> {
        let checked = self.check_times().and_then(|()| self.check_limits());
        checked.and_then(|()| self.check_applies(backend)).map_err(|error| error.on(backend))
    }

    fn check_times(&self) -> Result<()> {
        const LONGEST: Duration = Duration::from_secs(3600);
        let range = |field, value: Duration, least: Duration| {
            if value < least || value > LONGEST {
                let reason = format!("out of range, use {least:?} to {LONGEST:?}");
                return Err(Error::config(field, format_args!("{value:?}"), reason));
            }
            Ok(())
        };
        let millisecond = Duration::from_millis(1);
        range("connect_timeout", self.connect_timeout, 10 * millisecond)?;
        range("request_timeout", self.request_timeout, 10 * millisecond)?;
        range("detection", self.detection, Duration::from_secs(2))?;
        range("backoff_initial", self.backoff_initial, millisecond)?;
        range("backoff_max", self.backoff_max, self.backoff_initial)?;
        range("denied_backoff_max", self.denied_backoff_max, self.backoff_initial)?;
        if let Some(timeout) = self.session_timeout {
            range("session_timeout", timeout, 100 * millisecond)?;
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<()> {
        // One record with the longest attr, and what stands around it.
        const LEAST_BYTES: usize = 2 << 20;
        let least = |field, value: usize, least: usize| {
            let reason = || format!("too small, use at least {least}");
            if value < least { Err(Error::config(field, value, reason())) } else { Ok(()) }
        };
        least("max_endpoints", self.max_endpoints, 1)?;
        least("max_service_bytes", self.max_service_bytes, LEAST_BYTES)
    }

    /// A setting that would be ignored is a mistake: of a secret, one that leaves a door open.
    fn check_applies(&self, backend: BackendType) -> Result<()> {
        use BackendType::{Consul, Etcd, Zookeeper};
        let applies: [(&'static str, bool, &[BackendType]); 12] = [
            ("tls", self.tls.is_some(), &[Etcd, Zookeeper, Consul]),
            ("user", self.user.is_some(), &[Etcd, Zookeeper]),
            ("password", self.password.is_some(), &[Etcd, Zookeeper]),
            ("sasl", self.sasl, &[Zookeeper]),
            ("acl", !self.acl.is_empty(), &[Zookeeper]),
            ("lock_service", self.lock_service, &[Zookeeper]),
            ("guard", self.guard, &[Zookeeper]),
            ("token", self.token.is_some(), &[Consul]),
            ("datacenter", self.datacenter.is_some(), &[Consul]),
            ("namespace", self.namespace.is_some(), &[Consul]),
            ("partition", self.partition.is_some(), &[Consul]),
            ("client", self.client.is_some_and(|client| client.backend() != backend), &[]),
        ];
        for (field, set, backends) in applies {
            if set && !backends.contains(&backend) {
                return Err(Error::config(field, "set", format_args!("does not apply to {backend}")));
            }
        }
        match (&self.user, &self.password) {
            (Some(_), None) => Err(Error::incomplete("password", "user")),
            (None, Some(_)) => Err(Error::incomplete("user", "password")),
            (None, None) if self.sasl => Err(Error::incomplete("user", "sasl")),
            _ => self.tls.as_ref().map_or(Ok(()), TlsConfig::check),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(backend: BackendType, config: ConnectionConfig) -> Option<&'static str> {
        config.check(backend).err().and_then(|error| error.field())
    }

    #[test]
    fn absurd_times_and_limits_are_rejected_by_field() {
        let config = ConnectionConfig { detection: Duration::ZERO, ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, config), Some("detection"));
        let config = ConnectionConfig { max_endpoints: 0, ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, config), Some("max_endpoints"));
        assert_eq!(rejected(BackendType::Etcd, ConnectionConfig::default()), None);
    }

    #[test]
    fn what_would_be_ignored_is_rejected_by_field() {
        let token = ConnectionConfig { token: Some("t".into()), ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, token.clone()), Some("token"));
        assert_eq!(rejected(BackendType::Consul, token), None);
        let user =
            ConnectionConfig { user: Some("u".into()), password: Some("p".into()), ..Default::default() };
        assert_eq!(rejected(BackendType::Consul, user.clone()), Some("user"));
        assert_eq!(rejected(BackendType::Zookeeper, user), None);
        let tls = ConnectionConfig { tls: Some(TlsConfig::default()), ..Default::default() };
        assert_eq!(rejected(BackendType::Memory, tls), Some("tls"));
        let client = ConnectionConfig { client: Some(ClientCrate::Consulrs), ..Default::default() };
        assert_eq!(rejected(BackendType::Zookeeper, client.clone()), Some("client"));
        assert_eq!(rejected(BackendType::Consul, client), None);
    }

    #[test]
    fn half_of_a_pair_is_rejected_by_the_other_half() {
        let user = ConnectionConfig { user: Some("u".into()), ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, user), Some("password"));
        let password = ConnectionConfig { password: Some("p".into()), ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, password), Some("user"));
        let tls = TlsConfig { key: Some("key".into()), ..Default::default() };
        let tls = ConnectionConfig { tls: Some(tls), ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, tls), Some("tls.cert"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = ConnectionConfig {
            password: Some("hunter2".into()),
            token: Some("hunter2".into()),
            tls: Some(TlsConfig { key: Some("hunter2".into()), ..Default::default() }),
            ..Default::default()
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
