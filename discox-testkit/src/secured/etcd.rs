//! etcd: a role of two ranges of keys, and a user with this role.

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Options, PREFIX, SERVICE, Secrets, Tls, USER};
use crate::server::{Access, Builder, Member};

const ROLE: &str = "discox";

pub(super) fn prepare(builder: Builder, access: Access, options: &Options, secrets: &Secrets) -> Builder {
    let mut access = access
        .tool_env("ETCDCTL_USER", format!("root:{}", secrets.admin_password))
        // A busy machine takes its time.
        .tool_env("ETCDCTL_COMMAND_TIMEOUT", "30s")
        .tool_env("ETCDCTL_DIAL_TIMEOUT", "30s");
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

/// By the gateway, which needs no program to be started for each step; before `enable` anybody may.
pub(super) async fn let_in(member: &Member, secrets: &Secrets) -> Result<()> {
    let mut steps = vec![
        ("user/add", json!({ "name": "root", "password": secrets.admin_password })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
        ("user/add", json!({ "name": USER, "password": secrets.user_password })),
        ("role/add", json!({ "name": ROLE })),
    ];
    for prefix in [format!("{PREFIX}/"), format!("/{SERVICE}")] {
        let (key, range_end) = (STANDARD.encode(&prefix), STANDARD.encode(behind(&prefix)));
        let permission = json!({ "permType": "READWRITE", "key": key, "range_end": range_end });
        steps.push(("role/grant", json!({ "name": ROLE, "perm": permission })));
    }
    steps.push(("user/grant", json!({ "user": USER, "role": ROLE })));
    steps.push(("enable", json!({})));
    for (step, request) in steps {
        member.http("POST", &format!("/v3/auth/{step}"), &request.to_string()).await?;
    }
    Ok(())
}

/// The first key that does not begin with this prefix.
fn behind(prefix: &str) -> Vec<u8> {
    let mut key = prefix.as_bytes().to_vec();
    if let Some(last) = key.last_mut() {
        *last += 1;
    }
    key
}

pub(super) async fn grant(member: &Member) -> Result<()> {
    member.tool(&["user", "grant-role", USER, ROLE]).await.map(drop)
}

pub(super) async fn revoke(member: &Member) -> Result<()> {
    member.tool(&["user", "revoke-role", USER, ROLE]).await.map(drop)
}
