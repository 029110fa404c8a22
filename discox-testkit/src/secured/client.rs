//! What the user of a secured server has: addresses, files, and how they are configured.

use std::{fs, path::PathBuf};

use anyhow::Result;
use discox_core::{ConnectionConfig, ConsulOptions, Secret, TlsConfig, ZookeeperOptions};

use super::{Login, Secrets, Secured, Tls, USER, zookeeper};
use crate::{authority::Authority, server::Kind};

impl Secured {
    /// What `backend_endpoints` has to be.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.options.tls == Tls::Off { "http" } else { "https" };
        let mut addresses = self.servers.addresses();
        match self.servers.kind() {
            Kind::Zookeeper => addresses.iter_mut().next_back().map_or((), |last| *last += zookeeper::CHROOT),
            _ => addresses.iter_mut().for_each(|address| *address = format!("{scheme}://{address}")),
        }
        addresses
    }

    /// What stands before the paths of records where the administrator's tools look.
    pub fn root(&self) -> &'static str {
        if self.servers.kind() == Kind::Zookeeper { zookeeper::CHROOT } else { "" }
    }

    /// How the user connects: everything by files, which [`rotate`](Secured::rotate) replaces.
    pub fn connection(&self) -> ConnectionConfig {
        let mutual = self.is_mutual();
        let tls = (self.options.tls != Tls::Off).then(|| TlsConfig {
            ca: Some(self.ca_file().into()),
            cert: mutual.then(|| self.certificate_file().into()),
            key: mutual.then(|| Secret::file(self.key_file())),
            ..TlsConfig::default()
        });
        let kind = self.servers.kind();
        let by_password = match kind {
            Kind::Etcd => true,
            Kind::Zookeeper => self.options.login != Login::Certificate,
            Kind::Consul => false,
        };
        ConnectionConfig {
            tls,
            user: by_password.then(|| USER.to_owned()),
            password: by_password.then(|| Secret::file(self.password_file())),
            zookeeper: ZookeeperOptions {
                sasl: kind == Kind::Zookeeper && self.options.login == Login::Sasl,
                ..Default::default()
            },
            consul: ConsulOptions {
                token: (kind == Kind::Consul).then(|| Secret::file(self.token_file())),
                ..Default::default()
            },
            ..ConnectionConfig::default()
        }
    }

    /// [`connection`](Secured::connection) of mutual TLS as a configuration file of the command line.
    pub fn config_file(&self) -> Result<PathBuf> {
        let secret = |name: &str, path: PathBuf| format!("{name} = {{ file = {path:?} }}\n");
        let credentials = match self.servers.kind() {
            Kind::Etcd => format!("user = {USER:?}\n") + &secret("password", self.password_file()),
            Kind::Zookeeper => {
                let login = format!("user = {USER:?}\n") + &secret("password", self.password_file());
                login + "[connection.zookeeper]\nsasl = true\n"
            }
            Kind::Consul => "[connection.consul]\n".to_owned() + &secret("token", self.token_file()),
        };
        let (ca, cert) = (self.ca_file(), self.certificate_file());
        let key = secret("key", self.key_file());
        let tls = format!("[connection.tls]\nca = {ca:?}\ncert = {cert:?}\n{key}");
        self.write("discox.toml", &format!("[connection]\n{credentials}{tls}"))
    }

    /// Do clients show a certificate?
    pub fn is_mutual(&self) -> bool {
        self.options.tls == Tls::Mutual
    }

    /// Who signs the certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The authority's certificate, as a PEM file.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The client certificate, as a PEM file.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("client.pem")
    }

    /// The key of the client certificate, as a PEM file.
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("client.key")
    }

    /// The file of the user's password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.join("password")
    }

    /// The file of the user's token.
    pub fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// The password of [`USER`]: etcd, ZooKeeper.
    pub fn password(&self) -> &str {
        &self.secrets.user_password
    }

    /// The user's token: Consul.
    pub fn token(&self) -> &str {
        &self.secrets.user_token
    }

    /// All passwords and tokens of these servers, the administrator's too.
    pub fn secrets(&self) -> [&str; 4] {
        let Secrets { user_password, admin_password, user_token, admin_token } = &self.secrets;
        [user_password, admin_password, user_token, admin_token].map(String::as_str)
    }

    /// Writes a file of the client's, or writes it anew.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}
