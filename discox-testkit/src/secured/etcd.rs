//! etcd: a role of two ranges of keys, and a user with this role.

use anyhow::Result;

use super::{Options, PREFIX, SERVICE, Secrets, Tls, USER};
use crate::server::{Access, Builder, Member};

const ROLE: &str = "discox";

pub(super) fn prepare(builder: Builder, access: Access, options: &Options, secrets: &Secrets) -> Builder {
    let mut access = access.tool_env("ETCDCTL_USER", format!("root:{}", secrets.admin_password));
    // A login costs what etcd's hash of the password costs.
    let mut builder = builder.arg("--bcrypt-cost=4");
    if options.tls != Tls::Off {
        access = access
            .tool_env("ETCDCTL_CACERT", "{files}/ca.pem")
            .tool_env("ETCDCTL_CERT", "{files}/admin.pem")
            .tool_env("ETCDCTL_KEY", "{files}/admin.key");
        builder = builder.arg("--cert-file={files}/server.pem").arg("--key-file={files}/server.key");
    }
    if options.tls == Tls::Mutual {
        builder = builder.arg("--client-cert-auth").arg("--trusted-ca-file={files}/ca.pem");
    }
    if let Some(ttl) = options.token_ttl {
        builder = builder.arg(format!("--auth-token-ttl={}", ttl.as_secs()));
    }
    builder.access(access)
}

pub(super) async fn let_in(member: &Member, secrets: &Secrets) -> Result<()> {
    let password = |user: &str, password: &str| format!("{user}:{password}");
    member.tool(&["user", "add", &password("root", &secrets.admin_password)]).await?;
    member.tool(&["user", "grant-role", "root", "root"]).await?;
    member.tool(&["user", "add", &password(USER, &secrets.user_password)]).await?;
    member.tool(&["role", "add", ROLE]).await?;
    for keys in [format!("{PREFIX}/"), format!("/{SERVICE}")] {
        member.tool(&["role", "grant-permission", ROLE, "--prefix", "readwrite", &keys]).await?;
    }
    grant(member).await?;
    member.tool(&["auth", "enable"]).await?;
    Ok(())
}

pub(super) async fn grant(member: &Member) -> Result<()> {
    member.tool(&["user", "grant-role", USER, ROLE]).await.map(drop)
}

pub(super) async fn revoke(member: &Member) -> Result<()> {
    member.tool(&["user", "revoke-role", USER, ROLE]).await.map(drop)
}
