//! How a connection to the registry is made, kept and secured.

use std::time::Duration;

use crate::{BackendType, ConsulOptions, Error, Result, Secret, TlsConfig, ZookeeperOptions};

/// How the connection to the registry is made and kept. The defaults suit a data centre.
#[derive(Clone, Debug, PartialEq)]
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
    /// The most endpoints that are taken from the registry for one service. Default 100,000. A list
    /// with more is refused with [`TooLarge`](crate::ErrorKind::TooLarge), and the last known endpoints
    /// stay. A cache may hold twice as many: what is missing after an outage is held for a while.
    pub max_endpoints: usize,
    /// The most bytes that are taken from the registry for one service, names and attrs together; of
    /// Consul the whole answer, some 1,700 bytes for each instance. Default 64 MiB, at least 2 MiB.
    /// Beyond it as beyond `max_endpoints`.
    pub max_service_bytes: usize,
    /// How many events each registration and discovery keeps for [`History`](crate::History), the newest ones. Default
    /// 256, at most 100,000; 0 keeps none.
    pub history: usize,
    /// TLS to the registry; none is plain text, but for `https://` addresses, which use the default
    /// [`TlsConfig`]. Not for `memory`.
    pub tls: Option<TlsConfig>,
    /// etcd and ZooKeeper: who we are, with `password`.
    pub user: Option<String>,
    /// etcd and ZooKeeper: the password of `user`.
    pub password: Option<Secret>,
    /// What only ZooKeeper has.
    pub zookeeper: ZookeeperOptions,
    /// What only Consul has.
    pub consul: ConsulOptions,
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
            max_endpoints: 100_000,
            max_service_bytes: 64 << 20,
            history: 256,
            tls: None,
            user: None,
            password: None,
            zookeeper: ZookeeperOptions::default(),
            consul: ConsulOptions::default(),
        }
    }
}

impl ConnectionConfig {
    /// Rejects what cannot work and what `backend` does not know, before any I/O.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the field and the reason.
    pub fn check(&self, backend: BackendType) -> Result<()> {
        let checked = || {
            self.check_times()?;
            self.check_limits()?;
            self.check_applies(backend)?;
            self.check_pairs()?;
            self.zookeeper.check()?;
            self.consul.check()
        };
        checked().map_err(|error: Error| error.with_backend(backend))
    }

    fn check_times(&self) -> Result<()> {
        let millisecond = Duration::from_millis(1);
        in_range("connect_timeout", self.connect_timeout, 10 * millisecond)?;
        in_range("request_timeout", self.request_timeout, 10 * millisecond)?;
        in_range("detection", self.detection, Duration::from_secs(2))?;
        in_range("backoff_initial", self.backoff_initial, millisecond)?;
        in_range("backoff_max", self.backoff_max, self.backoff_initial)?;
        in_range("denied_backoff_max", self.denied_backoff_max, self.backoff_initial)
    }

    fn check_limits(&self) -> Result<()> {
        // One record with the longest attr, and what stands around it.
        const LEAST_BYTES: usize = 2 << 20;
        // With a check's output of 4 KiB in each event, 400 MiB: more is a mistake.
        const LONGEST_HISTORY: usize = 100_000;
        let least = |field, value: usize, least: usize| {
            let reason = || format!("too small, use at least {least}");
            if value < least { Err(Error::config(field, value, reason())) } else { Ok(()) }
        };
        if self.history > LONGEST_HISTORY {
            let reason = format_args!("too large, use at most {LONGEST_HISTORY}");
            return Err(Error::config("history", self.history, reason));
        }
        least("max_endpoints", self.max_endpoints, 1)?;
        least("max_service_bytes", self.max_service_bytes, LEAST_BYTES)
    }

    /// Rejects a setting that would be ignored: an ignored secret leaves a door open.
    fn check_applies(&self, backend: BackendType) -> Result<()> {
        use BackendType::{Consul, Memory, Zookeeper};
        let of_zookeeper = self.zookeeper.contradiction(&ZookeeperOptions::default());
        let of_consul = self.consul.contradiction(&ConsulOptions::default());
        let ignored = [
            of_zookeeper.filter(|_| backend != Zookeeper),
            of_consul.filter(|_| backend != Consul),
            self.tls.as_ref().map(|_| "tls").filter(|_| backend == Memory),
            self.user.as_ref().map(|_| "user").filter(|_| matches!(backend, Consul | Memory)),
            self.password.as_ref().map(|_| "password").filter(|_| matches!(backend, Consul | Memory)),
        ];
        match ignored.into_iter().flatten().next() {
            Some(field) => Err(Error::config(field, "set", format_args!("does not apply to {backend}"))),
            None => Ok(()),
        }
    }

    fn check_pairs(&self) -> Result<()> {
        match (&self.user, &self.password) {
            (Some(_), None) => Err(Error::incomplete("password", "user")),
            (None, Some(_)) => Err(Error::incomplete("user", "password")),
            (None, None) if self.zookeeper.sasl => Err(Error::incomplete("user", "zookeeper.sasl")),
            _ => self.tls.as_ref().map_or(Ok(()), TlsConfig::check),
        }
    }
}

/// Rejects a time that is shorter than `least` or longer than an hour.
pub(super) fn in_range(field: &'static str, value: Duration, least: Duration) -> Result<()> {
    const LONGEST: Duration = Duration::from_secs(3600);
    if value < least || value > LONGEST {
        let reason = format_args!("out of range, use {least:?} to {LONGEST:?}");
        return Err(Error::config(field, format_args!("{value:?}"), reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientCrate;

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
        let token = ConsulOptions { token: Some("t".into()), ..Default::default() };
        let token = ConnectionConfig { consul: token, ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, token.clone()), Some("consul.token"));
        assert_eq!(rejected(BackendType::Consul, token), None);
        let session_timeout = Some(Duration::from_secs(9));
        let session = ZookeeperOptions { session_timeout, ..Default::default() };
        let session = ConnectionConfig { zookeeper: session, ..Default::default() };
        assert_eq!(rejected(BackendType::Etcd, session.clone()), Some("zookeeper.session_timeout"));
        assert_eq!(rejected(BackendType::Consul, session.clone()), Some("zookeeper.session_timeout"));
        assert_eq!(rejected(BackendType::Zookeeper, session), None);
        let user =
            ConnectionConfig { user: Some("u".into()), password: Some("p".into()), ..Default::default() };
        assert_eq!(rejected(BackendType::Consul, user.clone()), Some("user"));
        assert_eq!(rejected(BackendType::Zookeeper, user), None);
        let tls = ConnectionConfig { tls: Some(TlsConfig::default()), ..Default::default() };
        assert_eq!(rejected(BackendType::Memory, tls), Some("tls"));
        let client = Some(ClientCrate::Consulrs);
        let consul = ConsulOptions { client, ..Default::default() };
        let config = ConnectionConfig { consul, ..Default::default() };
        assert_eq!(rejected(BackendType::Zookeeper, config.clone()), Some("consul.client"));
        assert_eq!(rejected(BackendType::Consul, config), None);
        let zookeeper = ZookeeperOptions { client, ..Default::default() };
        let config = ConnectionConfig { zookeeper, ..Default::default() };
        assert_eq!(rejected(BackendType::Zookeeper, config), Some("zookeeper.client"));
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
            consul: ConsulOptions { token: Some("hunter2".into()), ..Default::default() },
            tls: Some(TlsConfig { key: Some("hunter2".into()), ..Default::default() }),
            ..Default::default()
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
