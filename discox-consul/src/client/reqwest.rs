//! Consul's HTTP interface by `reqwest`.

use std::{future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{Method, Response, StatusCode, Url, header::HeaderMap, redirect::Policy};
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, time::timeout};

use super::{Checks, Fault, Health, Hold, OfNode, Question, Registration, Ruling, Services};

/// The longest answer that is read, in bytes: some 150,000 instances.
const LONGEST_ANSWER: usize = 256 << 20;
/// The longest explanation of an error that is read, in bytes.
const LONGEST_EXPLANATION: usize = 512;
/// Ordinary requests under way at once. With the blocking queries that makes less than the 200
/// connections that an agent allows a client.
const AT_ONCE: usize = 32;
/// Once an answer has begun, it may take this many times the patience: it can be long.
const READING: u32 = 8;
/// Connections that are kept for the next request, and for how long.
const IDLE: usize = AT_ONCE;
const IDLE_FOR: Duration = Duration::from_secs(30);

/// One agent. Nothing is sent before the first request; every connection looks the host's name up
/// again.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    /// The longest wait for the answer to an ordinary request.
    patience: Duration,
    gate: Semaphore,
}

type Result<T> = std::result::Result<T, Fault>;

/// One request, as it is put together.
struct Request<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

impl<'a> Request<'a> {
    fn new(method: Method, path: &'a [&'a str]) -> Self {
        Self { method, path, query: Vec::new(), body: None }
    }

    fn get(path: &'a [&'a str]) -> Self {
        Self::new(Method::GET, path)
    }

    fn put(path: &'a [&'a str]) -> Self {
        Self::new(Method::PUT, path)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    fn body(mut self, body: &impl serde::Serialize) -> Result<Self> {
        self.body = Some(serde_json::to_vec(body).map_err(malformed)?);
        Ok(self)
    }

    fn held(self, hold: Hold) -> Self {
        self.with("wait", format!("{}ms", hold.wait.as_millis()))
    }
}

impl Client {
    /// A client of the agent at `base`, such as `http://127.0.0.1:8500`. No I/O.
    pub(crate) fn new(base: &str, connect_timeout: Duration, patience: Duration) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("discox/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(fault)?;
        let base = Url::parse(base).map_err(malformed)?;
        Ok(Self { http, base, patience, gate: Semaphore::new(AT_ONCE) })
    }

    /// The leader's address; empty when there is none. Never waits for other requests.
    pub(crate) async fn leader(&self) -> Result<String> {
        self.send(Request::get(&["status", "leader"]), self.patience).await?.json()
    }

    /// Registers a service with its check.
    pub(crate) async fn register(&self, registration: &Registration) -> Result<()> {
        let request = Request::put(&["agent", "service", "register"]).body(registration)?;
        self.ask(request).await.map(drop)
    }

    /// Removes a service. One that the agent does not know is no error.
    pub(crate) async fn deregister(&self, id: &str) -> Result<()> {
        match self.ask(Request::put(&["agent", "service", "deregister", id])).await {
            Err(Fault::Status(404, _)) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Passes a TTL check; false when the agent does not know it.
    pub(crate) async fn pass(&self, check: &str) -> Result<bool> {
        match self.ask(Request::put(&["agent", "check", "pass", check])).await {
            Ok(_) => Ok(true),
            Err(Fault::Status(404, _)) => Ok(false),
            // So say servers before 1.12.
            Err(Fault::Status(500, said)) if said.contains("does not have associated TTL") => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// The agent's services, as far as they match the filter expression.
    pub(crate) async fn services(&self, filter: &str) -> Result<Services> {
        self.ask(Request::get(&["agent", "services"]).with("filter", filter)).await?.json()
    }

    /// The catalogue's services of one node, as far as they match the filter expression.
    pub(crate) async fn node_services(&self, node: &str, filter: &str) -> Result<Services> {
        let path = ["catalog", "node", node];
        let of_node: Option<OfNode> = self.ask(Request::get(&path).with("filter", filter)).await?.json()?;
        Ok(of_node.unwrap_or_default().services)
    }

    /// The agent's checks, as far as they match the filter expression.
    pub(crate) async fn checks(&self, filter: &str) -> Result<Checks> {
        self.ask(Request::get(&["agent", "checks"]).with("filter", filter)).await?.json()
    }

    /// Reads one of the agent's services, held while its hash is `hash`. The hash, or none when the
    /// agent does not know the service.
    pub(crate) async fn service_hash(
        &self,
        id: &str,
        hash: Option<&str>,
        hold: Hold,
    ) -> Result<Option<String>> {
        let path = ["agent", "service", id];
        let mut request = Request::get(&path);
        if let Some(hash) = hash {
            request = request.held(hold).with("hash", hash);
        }
        match self.send(request, hold.limit()).await {
            Ok(reply) => Ok(Some(reply.header("x-consul-contenthash").unwrap_or_default().to_owned())),
            Err(Fault::Status(404, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// A service's instances with all their checks, as far as they match the filter expression.
    pub(crate) async fn health(&self, service: &str, filter: Option<&str>) -> Result<Health> {
        let path = ["health", "service", service];
        let mut request = Request::get(&path);
        if let Some(filter) = filter {
            request = request.with("filter", filter);
        }
        self.ask(request).await?.health()
    }

    /// A service's instances, once they are no longer what they were at `index`, or the wait is over.
    pub(crate) async fn health_after(&self, service: &str, index: u64, hold: Hold) -> Result<Health> {
        let path = ["health", "service", service];
        let request = Request::get(&path).held(hold).with("index", index.to_string());
        self.send(request, hold.limit()).await?.health()
    }

    /// Whether we may read a service and nodes; none when Consul does not say, such as without ACLs.
    pub(crate) async fn may_read(&self, service: &str) -> Result<Option<bool>> {
        let question = |resource, segment| Question { resource, segment, access: "read" };
        let path = ["internal", "acl", "authorize"];
        let request = Request::new(Method::POST, &path);
        let request = request.body(&[question("service", service), question("node", "")])?;
        match self.ask(request).await {
            Ok(reply) => Ok(Some(reply.json::<Vec<Ruling>>()?.iter().all(|ruling| ruling.allow))),
            Err(Fault::Status(400..=402 | 404..=499, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// An ordinary request: it waits its turn.
    async fn ask(&self, request: Request<'_>) -> Result<Reply> {
        let _turn = self.gate.acquire().await;
        self.send(request, self.patience).await
    }

    /// Sends a request whose answer begins within `limit`, and reads it to its end.
    async fn send(&self, request: Request<'_>, limit: Duration) -> Result<Reply> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(request.path);
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        let mut building = self.http.request(request.method, url);
        if let Some(body) = request.body {
            building = building.header("content-type", "application/json").body(body);
        }
        let response = in_time(limit, building.send()).await?.map_err(fault)?;
        in_time(self.patience * READING, read(response)).await?
    }
}

/// A good answer, read to its end.
struct Reply {
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(malformed)
    }

    fn health(&self) -> Result<Health> {
        Ok(Health {
            index: self.header("x-consul-index").and_then(|index| index.parse().ok()).unwrap_or(0),
            filtered_by_acl: self.header("x-consul-results-filtered-by-acls") == Some("true"),
            instances: self.json()?,
        })
    }
}

async fn read(mut response: Response) -> Result<Reply> {
    let status = response.status();
    let longest = if status == StatusCode::OK { LONGEST_ANSWER } else { LONGEST_EXPLANATION };
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(fault)? {
        if body.len() + chunk.len() > longest {
            if status == StatusCode::OK {
                return Err(Fault::TooLarge(longest));
            }
            body.extend_from_slice(&chunk[..longest - body.len()]);
            break;
        }
        body.extend_from_slice(&chunk);
    }
    if status != StatusCode::OK {
        return Err(Fault::Status(status.as_u16(), on_one_line(&body)));
    }
    Ok(Reply { headers: std::mem::take(response.headers_mut()), body: body.freeze() })
}

/// What Consul wrote, fit for an error message.
fn on_one_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

async fn in_time<T>(limit: Duration, answer: impl Future<Output = T>) -> Result<T> {
    timeout(limit, answer).await.map_err(|_| Fault::TimedOut(limit))
}

fn fault(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let connecting = error.is_connect() || error.is_timeout();
    if connecting { Fault::Unreachable(Box::new(error)) } else { Fault::Broken(Box::new(error)) }
}

fn malformed(error: impl std::fmt::Display) -> Fault {
    Fault::Malformed(error.to_string())
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
