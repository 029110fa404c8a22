//! Consul, by what its UI and `curl` use: HTTP.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use discox::BackendType;
use discox_testkit::{
    conformance::Place,
    server::{Kind, Member},
};
use serde_json::{Value, json};

use super::server::Tools;

#[derive(Default)]
pub(super) struct Consul;

#[async_trait(?Send)]
impl Tools for Consul {
    const BACKEND: BackendType = BackendType::Consul;
    const KIND: Kind = Kind::Consul;
    const EXPIRY_TAKES: Duration = Duration::from_secs(2);

    /// Registers a service as anybody would; one that is there is registered again with another Meta,
    /// and keeps its checks.
    async fn put(member: &Member, place: &Place, attr: &str) -> Result<()> {
        let known = of(member, place).await?.into_iter().next();
        let id =
            known.map_or_else(|| format!("by-hand-{}-{}", place.service, place.endpoint), |known| id(&known));
        let (host, port) = split(&place.endpoint)?;
        let meta: Value = serde_json::from_str(attr)?;
        let service = json!({ "ID": id, "Name": place.service, "Address": host, "Port": port, "Meta": meta });
        member.http("PUT", "/v1/agent/service/register", &service.to_string()).await.map(drop)
    }

    async fn delete(member: &Member, place: &Place) -> Result<()> {
        for service in of(member, place).await? {
            member.http("PUT", &format!("/v1/agent/service/deregister/{}", id(&service)), "").await?;
        }
        Ok(())
    }

    /// A service that has no port cannot be an endpoint.
    async fn garbage(member: &Member, place: &Place) -> Result<()> {
        let service = json!({ "ID": place.endpoint, "Name": place.service, "Address": "10.9.9.9" });
        member.http("PUT", "/v1/agent/service/register", &service.to_string()).await.map(drop)
    }

    /// What discox cut into pieces is put together; any other record is its Meta.
    async fn read(member: &Member, place: &Place) -> Result<Option<String>> {
        let found = of(member, place).await?;
        ensure!(found.len() < 2, "two records of one endpoint: {found:?}");
        let Some(service) = found.into_iter().next() else { return Ok(None) };
        let meta: BTreeMap<String, String> = serde_json::from_value(service["Meta"].clone())?;
        if !meta.contains_key("discox") {
            return Ok(Some(serde_json::to_string(&meta)?));
        }
        Ok(Some((0..).map_while(|n| meta.get(&format!("discox-attr-{n:02}")).cloned()).collect()))
    }
}

/// The agent's records of an endpoint. One of discox's under another prefix is another endpoint's.
async fn of(member: &Member, place: &Place) -> Result<Vec<Value>> {
    let answer = member.http("GET", "/v1/agent/services", "").await?;
    let all: BTreeMap<String, Value> = serde_json::from_str(&answer)?;
    let (host, port) = split(&place.endpoint)?;
    let wanted = |service: &Value| {
        let prefix = &service["Meta"]["discox-prefix"];
        service["Service"] == place.service
            && service["Address"] == host
            && service["Port"] == port
            && (prefix.is_null() || *prefix == place.prefix)
    };
    Ok(all.into_values().filter(wanted).collect())
}

fn id(service: &Value) -> String {
    service["ID"].as_str().unwrap_or_default().to_owned()
}

fn split(endpoint: &str) -> Result<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':').context("no port")?;
    Ok((host.trim_matches(['[', ']']), port.parse()?))
}
