//! Servers as a security team wants them: TLS by an [authority](crate::authority) of the tests, logins, and a user
//! who may do no more than registering and discovering takes.
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! use discox_testkit::secured::{Options, Secured};
//! use discox_testkit::server::Kind;
//!
//! let etcd = Secured::start(Kind::Etcd, Options::default()).await?;
//! println!("{:?} {:?} {}", etcd.endpoints(), etcd.ca_file(), etcd.password());
//! etcd.revoke().await?; // the user may do nothing any more
//! etcd.grant().await?;
//! # Ok(()) }
//! ```
//!
//! The user may register and discover services whose name begins with [`SERVICE`], without a prefix or below
//! [`PREFIX`]: etcd's role and Consul's policy say so, and in ZooKeeper all of it lies in a chroot. The tools of
//! the members ([`Member::tool`], [`Member::http`], [`zookeeper::Session`](crate::zookeeper::Session)) are the
//! administrator's.

mod client;
mod consul;
mod etcd;
mod zookeeper;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::authority::{Authority, Identity};
use crate::server::{Access, Data, Kind, Member, Servers};

/// Where the user's records may lie.
pub const PREFIX: &str = "/conformance";

/// What the names of the user's services begin with.
pub const SERVICE: &str = "service-";

/// The user's name in etcd and ZooKeeper.
pub const USER: &str = "discox";

/// The common name of the client certificate, which gives no right.
pub const CLIENT: &str = "a-program";

/// How the servers are secured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many members; one by default.
    pub members: usize,
    /// What the connections are; mutual TLS by default.
    pub tls: Tls,
    /// etcd: how long the token of a login is good. etcd's own default is 5 minutes.
    pub token_ttl: Option<Duration>,
    /// ZooKeeper: what the user's rights hang on; SASL by default.
    pub login: Login,
    /// Consul: the user may register and discover exactly these services; without any, all those whose names begin
    /// with [`SERVICE`].
    pub services: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options { members: 1, tls: Tls::Mutual, token_ttl: None, login: Login::Sasl, services: Vec::new() }
    }
}

/// What the connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain TCP.
    Off,
    /// The server shows a certificate.
    Server,
    /// The client does, too.
    Mutual,
}

/// Who a client is to ZooKeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// User and password, by SASL DIGEST-MD5.
    Sasl,
    /// User and password, by the digest scheme.
    Digest,
    /// The client certificate, in mutual TLS.
    Certificate,
}

/// The passwords and tokens, new ones for every server: whoever searches for them finds no others.
struct Secrets {
    user_password: String,
    admin_password: String,
    user_token: String,
    admin_token: String,
}

/// Who the tools are. The servers trust this authority whatever else is rotated.
struct Admin {
    authority: String,
    identity: Identity,
}

/// Secured servers. Dropping it removes them.
pub struct Secured {
    options: Options,
    secrets: Secrets,
    admin: Admin,
    authority: Authority,
    servers: Servers,
    folder: PathBuf,
}

impl Secured {
    /// Starts them and lets the user in.
    pub async fn start(kind: Kind, options: Options) -> Result<Secured> {
        let secrets = Secrets::new();
        let authority = Authority::new()?;
        let admin = Admin::new()?;
        let access = match options.tls {
            Tls::Off => Access::default(),
            Tls::Server | Tls::Mutual => Access::over_tls(&admin.identity)?,
        };
        let server = authority.server()?;
        let mut builder = Servers::builder(kind).members(options.members);
        for (name, content) in files(kind, &authority, &server, &admin) {
            builder = builder.file(name, content);
        }
        let builder = match kind {
            Kind::Etcd => etcd::prepare(builder, access, &options, &secrets),
            Kind::Zookeeper => zookeeper::prepare(builder, access, &options, &secrets),
            Kind::Consul => consul::prepare(builder, access, &options, &secrets),
        };
        let servers = builder.start().await?;
        let folder = crate::server::own_folder("secured")?;
        let secured = Secured { options, secrets, admin, authority, servers, folder };
        secured.write_client_files()?;
        secured.write("password", secured.password())?;
        secured.write("token", secured.token())?;
        secured.let_user_in().await.context("the user's rights")?;
        Ok(secured)
    }

    /// The servers themselves.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The first member.
    pub fn member(&self) -> &Member {
        self.servers.member(0)
    }

    /// Takes all rights from the user. ZooKeeper: with all that is there now.
    pub async fn revoke(&self) -> Result<()> {
        match self.servers.kind() {
            Kind::Etcd => etcd::revoke(self.member()).await,
            Kind::Zookeeper => zookeeper::revoke(self.member()).await,
            Kind::Consul => consul::allow(self.member(), &self.secrets, false).await,
        }
    }

    /// Gives the user's rights back.
    pub async fn grant(&self) -> Result<()> {
        match self.servers.kind() {
            Kind::Etcd => etcd::grant(self.member()).await,
            Kind::Zookeeper => zookeeper::grant(self.member(), &self.options, &self.secrets).await,
            Kind::Consul => consul::allow(self.member(), &self.secrets, true).await,
        }
    }

    /// Consul: a further token of the user's, whose time is up after `ttl`, a minute at least.
    pub async fn issue_token(&self, ttl: Duration) -> Result<String> {
        let token = uuid();
        consul::issue(self.member(), &token, ttl).await?;
        Ok(token)
    }

    /// Consul: a further token with the user's rights stands in the token's file, and the one before is deleted.
    pub async fn replace_token(&self) -> Result<()> {
        let token = uuid();
        self.write("token", &token)?;
        consul::replace_token(self.member(), &token).await
    }

    /// Consul: from now on the user may register and discover exactly these services.
    pub async fn restrict_to(&self, services: &[String]) -> Result<()> {
        consul::restrict_to(self.member(), services).await
    }

    /// Starts killed servers again. Those that lost their data get the user again, a moment after they answer.
    pub async fn start_again(&self, data: Data) -> Result<()> {
        self.servers.start(data).await?;
        if data == Data::Wiped {
            self.let_user_in().await.context("the user's rights")?;
        }
        Ok(())
    }

    /// Restarts the servers with this certificate.
    pub async fn present(&self, server: &Identity) -> Result<()> {
        for member in self.servers.members() {
            for (name, content) in files(self.servers.kind(), &self.authority, server, &self.admin) {
                member.write_file(name, content.as_bytes()).await?;
            }
        }
        self.servers.kill().await?;
        self.servers.start(Data::Kept).await
    }

    /// Restarts the servers with certificates of a new authority, which they trust in place of the old one, and
    /// replaces the client's files by such that the new authority signed. (The administrator keeps its own.)
    pub async fn rotate(&mut self) -> Result<()> {
        self.authority = Authority::new()?;
        self.write_client_files()?;
        self.present(&self.authority.server()?).await
    }

    fn write_client_files(&self) -> Result<()> {
        let client = self.authority.client(CLIENT)?;
        self.write("ca.pem", &self.authority.certificate())?;
        self.write("client.pem", &client.certificate)?;
        self.write("client.key", &client.key)?;
        Ok(())
    }

    async fn let_user_in(&self) -> Result<()> {
        match self.servers.kind() {
            Kind::Etcd => etcd::let_in(self.member(), &self.secrets).await,
            Kind::Zookeeper => zookeeper::let_in(self.member(), &self.options, &self.secrets).await,
            Kind::Consul => consul::let_in(self.member(), &self.options, &self.secrets).await,
        }
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Admin {
    fn new() -> Result<Admin> {
        let authority = Authority::new()?;
        Ok(Admin { identity: authority.client("admin")?, authority: authority.certificate() })
    }
}

impl Secrets {
    fn new() -> Secrets {
        Secrets { user_password: random(), admin_password: random(), user_token: uuid(), admin_token: uuid() }
    }
}

fn random() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

fn uuid() -> String {
    let text = random();
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// The certificates that the servers and the administrator's tools read.
fn files(kind: Kind, authority: &Authority, server: &Identity, admin: &Admin) -> Vec<(&'static str, String)> {
    let mut files = vec![("ca.pem", authority.certificate() + &admin.authority)];
    let admin = &admin.identity;
    if kind == Kind::Zookeeper {
        files.extend([("server.pem", server.both()), ("admin.pem", admin.both())]);
    } else {
        files.extend([("server.pem", server.certificate.clone()), ("server.key", server.key.clone())]);
        files.extend([("admin.pem", admin.certificate.clone()), ("admin.key", admin.key.clone())]);
    }
    files
}
