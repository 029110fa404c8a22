//! What only ZooKeeper has.

use std::time::Duration;

use crate::{ClientCrate, Error, Result};

/// Settings of a connection to ZooKeeper.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ZookeeperOptions {
    /// The session timeout to ask for. Default: what the first registration of the connection asks
    /// for, its TTL; else 15 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub session_timeout: Option<Duration>,
    /// Prove `user` and `password` by SASL DIGEST-MD5 rather than by the `digest` scheme.
    pub sasl: bool,
    /// The ACL of what we create, each entry as in ZooKeeper's own shell, `scheme:id:permissions`, such
    /// as `auth::cdrwa`, `world:anyone:r` or `ip:10.0.0.0/8:cdrwa`. Default: with credentials
    /// `world:anyone:r` and `auth::cdrwa`, else `world:anyone:cdrwa`.
    pub acl: Vec<String>,
    /// Which client may delete a record is decided by the ACL of the service's node, which is open by
    /// default, so that any registrar can register there. True gives it the ACL of the records, so that
    /// only the owner of that credential can register, and delete, there.
    pub lock_service: bool,
    /// Check each frame that a server sends before the client crate reads it, so that a hostile server
    /// cannot fill the memory: an answer that is longer than `max_service_bytes` and `max_endpoints`
    /// allow is refused with [`TooLarge`](crate::ErrorKind::TooLarge). Costs two more sockets on the
    /// loopback, and time. Default: only with [`TlsConfig::server_name`](crate::TlsConfig::server_name),
    /// and with `user` over TLS, which need that as well.
    pub guard: bool,
    /// Which client crate serves, where several are compiled in. Default: `zookeeper-client`.
    pub client: Option<ClientCrate>,
}

super::contradictions!(ZookeeperOptions, "zookeeper.": session_timeout sasl acl lock_service guard client);

impl ZookeeperOptions {
    /// Rejects what cannot work.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(timeout) = self.session_timeout {
            super::connection::in_range("zookeeper.session_timeout", timeout, Duration::from_millis(100))?;
        }
        match self.client {
            None | Some(ClientCrate::ZookeeperClient | ClientCrate::ZookeeperAsync) => Ok(()),
            Some(other) => Err(Error::config("zookeeper.client", other, "does not apply to zookeeper")),
        }
    }
}
