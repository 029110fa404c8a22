//! Consul by `reqwest`: the agent's HTTP interface, and blocking queries one after the other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures_util::{
    future::try_join,
    stream::{self, StreamExt},
};
use reqwest::{Client as Inner, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::{Map as Object, Value, json};
use tokio::{
    task::JoinHandle,
    time::{interval, sleep},
};

use super::{Layout, Map, Raw, Watched, change};
use crate::{
    client::{Client, Entry, PREFIX, Sight, Watching},
    fleet,
};

/// Operations a transaction, as many as the server takes.
const BATCH: usize = 64;

/// TTL checks that are passed at once.
const PASSES: usize = 16;

pub(crate) struct Consul {
    http: Inner,
    base: String,
    heart_beat: Duration,
    /// Writes and asks what discox does: who else holds the endpoint, and whether an empty list is one.
    careful: bool,
    kept: Kept,
    keeping: JoinHandle<()>,
}

/// The checks to be passed.
type Kept = Arc<Mutex<BTreeSet<String>>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    address: String,
    port: u16,
    meta: HashMap<String, String>,
}

impl Consul {
    pub(crate) async fn connect(address: &str, heart_beat: Duration, careful: bool) -> Result<Self> {
        let http = Inner::builder().no_proxy().connect_timeout(Duration::from_secs(2)).build()?;
        let base = format!("http://{address}/v1");
        done(http.get(format!("{base}/status/leader"))).await?;
        let kept = Kept::default();
        let keeping = tokio::spawn(keep(http.clone(), base.clone(), heart_beat, kept.clone()));
        Ok(Self { http, base, heart_beat, careful, kept, keeping })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn enter(
        &self,
        service: &str,
        endpoint: &str,
        attr: &str,
        layout: Layout,
    ) -> Result<Box<dyn Entry>> {
        let registered = Registered {
            http: self.http.clone(),
            base: self.base.clone(),
            service: service.into(),
            endpoint: endpoint.into(),
            layout,
            ttl: 3 * self.heart_beat,
            careful: self.careful,
            kept: self.kept.clone(),
        };
        if self.careful {
            registered.look().await?;
        }
        registered.write(attr).await?;
        if self.careful {
            registered.look_again().await?;
        }
        lock(&self.kept).insert(registered.id());
        Ok(Box::new(registered))
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// Passes all checks at each heart beat.
async fn keep(http: Inner, base: String, heart_beat: Duration, kept: Kept) {
    let mut ticks = interval(heart_beat);
    loop {
        ticks.tick().await;
        let ids = lock(&kept).clone();
        let passes =
            ids.into_iter().map(|id| done(http.put(format!("{base}/agent/check/pass/service:{id}"))));
        // What fails is tried again by the next tick.
        stream::iter(passes).buffer_unordered(PASSES).for_each(|_| async {}).await;
    }
}

fn lock(kept: &Kept) -> MutexGuard<'_, BTreeSet<String>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to a request that succeeds.
async fn done(request: RequestBuilder) -> Result<Response> {
    let response = request.send().await?;
    let status = response.status();
    ensure!(status.is_success(), "{status}: {}", response.text().await?);
    Ok(response)
}

/// Asks for a service, held until it is no longer what it was at `index`.
async fn query(
    http: &Inner,
    base: &str,
    service: &str,
    index: u64,
) -> Result<(u64, HashMap<String, Vec<u8>>)> {
    let url = format!("{base}/health/service/{service}?passing=1&index={index}&wait=10s");
    let response = done(http.get(url)).await?;
    let index = response.headers().get("x-consul-index").context("no index")?.to_str()?.parse()?;
    let instances: Vec<Instance> = serde_json::from_slice(&response.bytes().await?)?;
    let entry = |Instance { service: Service { address, port, mut meta } }| {
        let attr = meta.remove("discox-attr-00").or_else(|| meta.remove("attr"));
        (format!("{address}:{port}"), attr.unwrap_or_default().into_bytes())
    };
    Ok((index, instances.into_iter().map(entry).collect()))
}

#[async_trait]
impl Client for Consul {
    async fn register(&self, service: &str, endpoint: &str, attr: &str) -> Result<Box<dyn Entry>> {
        let layout = if self.careful { Layout::Discox } else { Layout::Plain };
        self.enter(service, endpoint, attr, layout).await
    }

    async fn watch(&self, service: &str, sight: Arc<Sight>) -> Result<Box<dyn Watching>> {
        let (index, map) = query(&self.http, &self.base, service, 0).await?;
        let map = Arc::new(Map::new(map));
        let (http, base, service) = (self.http.clone(), self.base.clone(), service.to_owned());
        let following = follow(http, base, service, index, self.careful, map.clone(), sight);
        let task = tokio::spawn(async move { drop(following.await) });
        Ok(Box::new(Watched { map, task }))
    }
}

async fn follow(
    http: Inner,
    base: String,
    service: String,
    mut index: u64,
    careful: bool,
    map: Arc<Map>,
    sight: Arc<Sight>,
) -> Result<()> {
    loop {
        let (next, list) = query(&http, &base, &service, index).await?;
        if careful && list.is_empty() {
            may_read(&http, &base, &service).await?;
        }
        if next != index {
            change(&map, &sight, |map| *map = list);
        } else {
            sleep(Duration::from_millis(1)).await;
        }
        index = next;
    }
}

/// Asks whether we may read a service: a list that is denied is empty.
async fn may_read(http: &Inner, base: &str, service: &str) -> Result<()> {
    let question = |resource, segment| json!({ "Resource": resource, "Segment": segment, "Access": "read" });
    let body = json!([question("service", service), question("node", "")]);
    // Without ACLs the answer is an error.
    http.post(format!("{base}/internal/acl/authorize")).json(&body).send().await?.bytes().await?;
    Ok(())
}

struct Registered {
    http: Inner,
    base: String,
    service: String,
    endpoint: String,
    layout: Layout,
    ttl: Duration,
    careful: bool,
    kept: Kept,
}

impl Registered {
    fn id(&self) -> String {
        id(&self.service, &self.endpoint)
    }

    /// Looks who has registered the endpoint, as the catalogue knows it.
    async fn look(&self) -> Result<()> {
        self.ask(&format!("health/service/{}", self.service), "Service.").await
    }

    /// Looks who else has registered it at the same time, with this agent.
    async fn look_again(&self) -> Result<()> {
        self.ask("agent/services", "").await
    }

    async fn ask(&self, path: &str, at: &str) -> Result<()> {
        let (host, port) = self.endpoint.rsplit_once(':').unwrap_or((&self.endpoint, "0"));
        let filter = format!("({at}Address == \"{host}\" and {at}Port == {port})");
        let url = reqwest::Url::parse_with_params(&format!("{}/{path}", self.base), [("filter", filter)])?;
        done(self.http.get(url)).await?.bytes().await?;
        Ok(())
    }

    async fn write(&self, attr: &str) -> Result<()> {
        let mut body = record(&self.service, &self.endpoint, attr, self.layout);
        body["Name"] = self.service.as_str().into();
        body["Check"] = json!({ "TTL": format!("{}s", self.ttl.as_secs()), "Status": "passing" });
        done(self.http.put(format!("{}/agent/service/register", self.base)).json(&body)).await?;
        Ok(())
    }
}

#[async_trait]
impl Entry for Registered {
    async fn update(&self, attr: &str) -> Result<()> {
        if self.careful {
            try_join(self.write(attr), self.look()).await.map(drop)
        } else {
            self.write(attr).await
        }
    }

    async fn withdraw(&self) -> Result<()> {
        lock(&self.kept).remove(&self.id());
        done(self.http.put(format!("{}/agent/service/deregister/{}", self.base, self.id()))).await?;
        Ok(())
    }
}

fn id(service: &str, endpoint: &str) -> String {
    format!("{service}-{}", endpoint.replace(':', "-"))
}

fn record(service: &str, endpoint: &str, attr: &str, layout: Layout) -> Value {
    let (address, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "0"));
    let meta = match layout {
        Layout::Plain => json!({ "attr": attr }),
        Layout::Discox => as_discox(attr),
    };
    let port: u16 = port.parse().unwrap_or(0);
    json!({ "ID": id(service, endpoint), "Address": address, "Port": port, "Meta": meta })
}

/// The Meta that discox gives to a record: marks, the attr, and its members for others to read.
fn as_discox(attr: &str) -> Value {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let members: Object<String, Value> = serde_json::from_str(attr).unwrap_or_default();
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let mut meta: Object<String, Value> =
        members.into_iter().map(|(key, value)| (key, Value::String(text(value)))).collect();
    meta.insert("discox".into(), "1".into());
    meta.insert("discox-prefix".into(), PREFIX.into());
    let started = format!("{:020}-{:032x}", since_1970.as_nanos(), fastrand::u128(..));
    meta.insert("discox-started".into(), started.into());
    meta.insert("discox-attr-bytes".into(), attr.len().to_string().into());
    meta.insert("discox-attr-00".into(), attr.into());
    meta.into()
}

#[async_trait]
impl Raw for Consul {
    async fn fill(&self, service: &str, n: usize, layout: Layout) -> Result<()> {
        let node = json!({ "Node": "fleet", "Address": "10.0.0.1" });
        let node = json!([{ "Node": { "Verb": "set", "Node": node } }]);
        done(self.http.put(self.url("/txn")).json(&node)).await?;
        let all: Vec<usize> = (0..n).collect();
        for batch in all.chunks(BATCH) {
            let set = |i: &usize| {
                let mut record = record(service, &fleet::endpoint(*i), &fleet::attr(*i, 0), layout);
                record["Service"] = service.into();
                json!({ "Service": { "Verb": "set", "Node": "fleet", "Service": record } })
            };
            let body: Vec<Value> = batch.iter().map(set).collect();
            done(self.http.put(self.url("/txn")).json(&body)).await?;
        }
        Ok(())
    }

    async fn register_for_discox(&self, service: &str, endpoint: &str, attr: &str) -> Result<Box<dyn Entry>> {
        self.enter(service, endpoint, attr, Layout::Discox).await
    }
}
