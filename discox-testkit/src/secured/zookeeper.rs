//! ZooKeeper: a chroot in which the user may create nodes; everything else is closed to everybody.

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{CLIENT, Login, Options, Secrets, Tls, USER};
use crate::server::{Access, Builder, Member};
use crate::zookeeper::{Acl, Session};

/// Where the user's records lie.
pub(super) const CHROOT: &str = "/discox";

/// The administrator, whom no ACL stops.
const ADMIN: &str = "super";

/// The shell of the administrator over TLS.
const SHELL_OVER_TLS: &str = "-Dzookeeper.client.secure=true \
    -Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty \
    -Dzookeeper.ssl.keyStore.location={files}/admin.pem -Dzookeeper.ssl.keyStore.type=PEM \
    -Dzookeeper.ssl.trustStore.location={files}/ca.pem -Dzookeeper.ssl.trustStore.type=PEM";

pub(super) fn prepare(builder: Builder, access: Access, options: &Options, secrets: &Secrets) -> Builder {
    let password = &secrets.admin_password;
    let login = "-Djava.security.auth.login.config={files}/";
    let mut access = access
        .zookeeper_digest(format!("{ADMIN}:{password}"))
        .tool_env("JVMFLAGS", format!("{login}client.jaas"));
    let users = format!("user_{ADMIN}=\"{password}\" user_{USER}=\"{}\"", secrets.user_password);
    let mut builder = builder
        .file("server.jaas", jaas("Server", &users))
        .file("client.jaas", jaas("Client", &format!("username=\"{ADMIN}\" password=\"{password}\"")))
        .env("JVMFLAGS", format!("{login}server.jaas -Dzookeeper.superUser={ADMIN}"))
        .env(
            "JVMFLAGS",
            format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={}", digest_id(ADMIN, password)),
        )
        .config("authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider");
    if options.tls != Tls::Off {
        let clients = if options.tls == Tls::Mutual { "need" } else { "none" };
        access = access.tool_env("JVMFLAGS", SHELL_OVER_TLS);
        builder = builder.config(&format!(
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             ssl.keyStore.location={{files}}/server.pem\n\
             ssl.keyStore.type=PEM\n\
             ssl.trustStore.location={{files}}/ca.pem\n\
             ssl.trustStore.type=PEM\n\
             ssl.clientAuth={clients}"
        ));
    }
    builder.access(access)
}

fn jaas(section: &str, settings: &str) -> String {
    format!("{section} {{ org.apache.zookeeper.server.auth.DigestLoginModule required {settings}; }};\n")
}

/// Who has this password, in the digest scheme.
fn digest_id(user: &str, password: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{user}:{password}").as_bytes());
    format!("{user}:{}", STANDARD.encode(hash))
}

/// The user in ACLs, with these rights.
fn user(options: &Options, secrets: &Secrets, rights: &str) -> Result<Acl> {
    Acl::new(&match options.login {
        Login::Sasl => format!("sasl:{USER}:{rights}"),
        Login::Digest => format!("digest:{}:{rights}", digest_id(USER, &secrets.user_password)),
        Login::Certificate => format!("x509:CN={CLIENT}:{rights}"),
    })
}

pub(super) async fn let_in(member: &Member, options: &Options, secrets: &Secrets) -> Result<()> {
    let mut session = Session::open(member).await?;
    session.set_acl("/", &[Acl::new("world:anyone:r")?]).await?;
    session.create_for(CHROOT, b"", &of_chroot(options, secrets)?).await
}

fn of_chroot(options: &Options, secrets: &Secrets) -> Result<[Acl; 2]> {
    Ok([user(options, secrets, "cr")?, Acl::new("world:anyone:r")?])
}

pub(super) async fn revoke(member: &Member) -> Result<()> {
    let nobody = [Acl::new("sasl:nobody:r")?];
    let mut session = Session::open(member).await?;
    for node in nodes(&mut session).await? {
        session.set_acl(&node, &nobody).await?;
    }
    Ok(())
}

pub(super) async fn grant(member: &Member, options: &Options, secrets: &Secrets) -> Result<()> {
    let below = [user(options, secrets, "cdrwa")?, Acl::new("world:anyone:r")?];
    let mut session = Session::open(member).await?;
    let nodes = nodes(&mut session).await?;
    let (chroot, others) = nodes.split_first().context("no chroot")?;
    session.set_acl(chroot, &of_chroot(options, secrets)?).await?;
    for node in others {
        session.set_acl(node, &below).await?;
    }
    Ok(())
}

/// The chroot and all below, parents first.
async fn nodes(session: &mut Session) -> Result<Vec<String>> {
    let mut nodes = vec![CHROOT.to_owned()];
    let mut at = 0;
    while let Some(node) = nodes.get(at).cloned() {
        nodes.extend(session.children(&node).await?.iter().map(|name| format!("{node}/{name}")));
        at += 1;
    }
    Ok(nodes)
}
