//! What can be said of TLS, credentials and rights. Secrets come from files and variables, never from
//! flags, which everybody on the machine can read.

use std::path::PathBuf;

use discox::{ConnectionConfig, ConsulOptions, Pem, Secret, TlsConfig, ZookeeperOptions};

/// Holds the password itself.
const PASSWORD: &str = "DISCOX_PASSWORD";

/// Holds the token itself.
const TOKEN: &str = "DISCOX_TOKEN";

/// Holds the token itself that `serve` asks for.
pub(crate) const ACCESS_TOKEN: &str = "DISCOX_ACCESS_TOKEN";

/// The variables that COMMAND does not inherit.
pub(crate) const SECRETS: [&str; 3] = [ACCESS_TOKEN, PASSWORD, TOKEN];

/// What all subcommands take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Security options")]
pub(crate) struct Security {
    /// The authorities to trust for TLS [default: those of the operating system]
    #[arg(long, env = "DISCOX_TLS_CA", value_name = "PEM", global = true, hide_env_values = true)]
    tls_ca: Option<PathBuf>,

    /// Trust those of the operating system beside --tls-ca
    #[arg(long, env = "DISCOX_TLS_SYSTEM_ROOTS", global = true, hide_env_values = true)]
    tls_system_roots: bool,

    /// Our certificate, with --tls-key
    #[arg(long, env = "DISCOX_TLS_CERT", value_name = "PEM", global = true, hide_env_values = true)]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert
    #[arg(long, env = "DISCOX_TLS_KEY", value_name = "PEM", global = true, hide_env_values = true)]
    tls_key: Option<PathBuf>,

    /// The name that the server's certificate must have [default: the host of its address]
    #[arg(long, env = "DISCOX_TLS_SERVER_NAME", value_name = "NAME", global = true, hide_env_values = true)]
    tls_server_name: Option<String>,

    /// etcd and ZooKeeper: the user; its password from --password-file or DISCOX_PASSWORD
    #[arg(long, env = "DISCOX_USER", value_name = "NAME", global = true, hide_env_values = true)]
    user: Option<String>,

    /// etcd and ZooKeeper: the file with the password
    #[arg(long, env = "DISCOX_PASSWORD_FILE", value_name = "FILE", global = true, hide_env_values = true)]
    password_file: Option<PathBuf>,

    /// Consul: the file with the ACL token, which may be in DISCOX_TOKEN as well
    #[arg(long, env = "DISCOX_TOKEN_FILE", value_name = "FILE", global = true, hide_env_values = true)]
    token_file: Option<PathBuf>,

    /// ZooKeeper: prove user and password by SASL DIGEST-MD5
    #[arg(long, env = "DISCOX_SASL", global = true, hide_env_values = true)]
    sasl: bool,

    /// ZooKeeper: an entry of the ACL of what is created, scheme:id:permissions; can be repeated
    #[arg(
        long,
        env = "DISCOX_ACL",
        value_name = "ENTRY",
        value_delimiter = ',',
        global = true,
        hide_env_values = true
    )]
    acl: Vec<String>,

    /// ZooKeeper: only our own credential may register, and delete, in the service
    #[arg(long, env = "DISCOX_LOCK_SERVICE", global = true, hide_env_values = true)]
    lock_service: bool,

    /// ZooKeeper: look at what servers send before the client does; slower
    #[arg(long, env = "DISCOX_GUARD", global = true, hide_env_values = true)]
    guard: bool,

    /// Consul: the datacenter to ask [default: the agent's own]
    #[arg(long, env = "DISCOX_DATACENTER", value_name = "NAME", global = true, hide_env_values = true)]
    datacenter: Option<String>,

    /// Consul Enterprise: the namespace
    #[arg(long, env = "DISCOX_NAMESPACE", value_name = "NAME", global = true, hide_env_values = true)]
    namespace: Option<String>,

    /// Consul Enterprise: the admin partition
    #[arg(long, env = "DISCOX_PARTITION", value_name = "NAME", global = true, hide_env_values = true)]
    partition: Option<String>,
}

impl Security {
    /// Puts what was said over what the file has.
    pub(crate) fn over(self, mut connection: ConnectionConfig) -> ConnectionConfig {
        let secret = |path: Option<PathBuf>, variable| path.map(Secret::file).or_else(|| held_by(variable));
        connection.tls = self.tls_over(connection.tls.take());
        let ConnectionConfig { zookeeper, consul, .. } = connection;
        ConnectionConfig {
            user: self.user.or(connection.user),
            password: secret(self.password_file, PASSWORD).or(connection.password),
            zookeeper: ZookeeperOptions {
                sasl: self.sasl || zookeeper.sasl,
                acl: if self.acl.is_empty() { zookeeper.acl } else { self.acl },
                lock_service: self.lock_service || zookeeper.lock_service,
                guard: self.guard || zookeeper.guard,
                ..zookeeper
            },
            consul: ConsulOptions {
                token: secret(self.token_file, TOKEN).or(consul.token),
                datacenter: self.datacenter.or(consul.datacenter),
                namespace: self.namespace.or(consul.namespace),
                partition: self.partition.or(consul.partition),
                ..consul
            },
            ..connection
        }
    }

    /// TLS as the file has it and as flags say; none when neither says anything.
    fn tls_over(&self, filed: Option<TlsConfig>) -> Option<TlsConfig> {
        let file = |path: &Option<PathBuf>| path.clone().map(Pem::File);
        let said = TlsConfig {
            ca: file(&self.tls_ca),
            system_roots: self.tls_system_roots,
            cert: file(&self.tls_cert),
            key: self.tls_key.clone().map(Secret::file),
            server_name: self.tls_server_name.clone(),
        };
        let nothing = !said.system_roots
            && said.ca.is_none()
            && said.cert.is_none()
            && said.key.is_none()
            && said.server_name.is_none();
        match filed {
            None if nothing => None,
            filed => {
                let filed = filed.unwrap_or_default();
                Some(TlsConfig {
                    ca: said.ca.or(filed.ca),
                    system_roots: said.system_roots || filed.system_roots,
                    cert: said.cert.or(filed.cert),
                    key: said.key.or(filed.key),
                    server_name: said.server_name.or(filed.server_name),
                })
            }
        }
    }
}

/// The secret that a variable holds, if it is set.
pub(crate) fn held_by(variable: &str) -> Option<Secret> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(Secret::new)
}
