//! Consul: a policy, and a token with this policy; whoever brings none may do nothing.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{Options, SERVICE, Secrets, Tls};
use crate::server::{Access, Builder, MANY_CLIENTS, Member};

const POLICY: &str = "discox";

/// Names the user's token to those who change it. Any UUID is good.
const ACCESSOR: &str = "d15c0000-0000-4000-8000-000000000001";

pub(super) fn prepare(builder: Builder, access: Access, options: &Options, secrets: &Secrets) -> Builder {
    let master = &secrets.admin_token;
    let mut access = access.header("X-Consul-Token", master).tool_env("CONSUL_HTTP_TOKEN", master);
    // The agent works with a token of its own; a default one would let in whoever brings none.
    let mut builder = builder.config(&format!(
        "acl {{ enabled = true default_policy = \"deny\" tokens {{ master = \"{master}\" agent = \"{master}\" }} }}"
    ));
    builder = builder.config(MANY_CLIENTS);
    if options.tls != Tls::Off {
        access = access
            .tool_env("CONSUL_HTTP_SSL", "true")
            .tool_env("CONSUL_CACERT", "{files}/ca.pem")
            .tool_env("CONSUL_CLIENT_CERT", "{files}/admin.pem")
            .tool_env("CONSUL_CLIENT_KEY", "{files}/admin.key");
        builder = builder.config(
            r#"ca_file = "{files}/ca.pem" cert_file = "{files}/server.pem" key_file = "{files}/server.key""#,
        );
    }
    if options.tls == Tls::Mutual {
        builder = builder.config("verify_incoming = true verify_outgoing = true");
    }
    builder.access(access)
}

pub(super) async fn let_in(member: &Member, options: &Options, secrets: &Secrets) -> Result<()> {
    let policy = json!({ "Name": POLICY, "Rules": rules(&options.services) });
    member.http("PUT", "/v1/acl/policy", &policy.to_string()).await?;
    put_token(member, "/v1/acl/token", secrets, true).await
}

/// What the policy is from now on.
pub(super) async fn restrict_to(member: &Member, services: &[String]) -> Result<()> {
    let found = member.http("GET", &format!("/v1/acl/policy/name/{POLICY}"), "").await?;
    let id = serde_json::from_str::<serde_json::Value>(&found)?["ID"].clone();
    let policy = json!({ "ID": id, "Name": POLICY, "Rules": rules(services) });
    let path = format!("/v1/acl/policy/{}", id.as_str().unwrap_or_default());
    member.http("PUT", &path, &policy.to_string()).await.map(drop)
}

/// For exactly these services, or without any for all whose names begin with [`SERVICE`].
fn rules(services: &[String]) -> String {
    let mut rules = "node_prefix \"\" { policy = \"read\" }\n".to_owned();
    if services.is_empty() {
        rules += &format!("service_prefix \"{SERVICE}\" {{ policy = \"write\" }}\n");
    }
    for service in services {
        rules += &format!("service \"{service}\" {{ policy = \"write\" }}\n");
    }
    rules
}

/// Whether the user's token has the policy.
pub(super) async fn allow(member: &Member, secrets: &Secrets, allow: bool) -> Result<()> {
    put_token(member, &format!("/v1/acl/token/{ACCESSOR}"), secrets, allow).await
}

/// A further token, whose time is up after `ttl`: for Consul that is a minute at least.
pub(super) async fn issue(member: &Member, token: &str, ttl: Duration) -> Result<()> {
    let ttl = format!("{}s", ttl.as_secs());
    let token = json!({ "SecretID": token, "Policies": [{ "Name": POLICY }], "ExpirationTTL": ttl });
    member.http("PUT", "/v1/acl/token", &token.to_string()).await.map(drop)
}

/// A further token with the policy; the user's first one is deleted.
pub(super) async fn replace_token(member: &Member, token: &str) -> Result<()> {
    let token = json!({ "SecretID": token, "Policies": [{ "Name": POLICY }] });
    member.http("PUT", "/v1/acl/token", &token.to_string()).await?;
    member.http("DELETE", &format!("/v1/acl/token/{ACCESSOR}"), "").await.map(drop)
}

async fn put_token(member: &Member, path: &str, secrets: &Secrets, allow: bool) -> Result<()> {
    let policies = if allow { json!([{ "Name": POLICY }]) } else { json!([]) };
    let token = json!({ "AccessorID": ACCESSOR, "SecretID": secrets.user_token, "Policies": policies });
    member.http("PUT", path, &token.to_string()).await.map(drop)
}
