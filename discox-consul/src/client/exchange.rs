//! One request and its answer, whatever client crate carries them.

use std::{future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use discox_core::{ClientCrate, Error, TlsConfig};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::Semaphore, time::timeout};

#[cfg(feature = "consulrs")]
use super::consulrs;
#[cfg(feature = "reqwest")]
use super::reqwest;
use super::{
    Fault, Hold, Result, malformed,
    token::{Text, Token},
};
use crate::connect::Address;

/// The longest answer that is read of what is no list, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;
/// The longest explanation of an error that is read, in bytes.
const LONGEST_EXPLANATION: usize = 512;
/// By which a denial is known, whatever its status: from a server behind the agent it comes as 500.
const DENIALS: [&str; 3] = ["Permission denied", "ACL not found", "lacks permission"];
/// Ordinary requests under way at once. With the blocking queries that makes less than the 200
/// connections that an agent allows a client.
const AT_ONCE: usize = 32;
/// Once an answer has begun, it may take this many times the patience: it can be long.
const READING: u32 = 8;
/// Connections that are kept for the next request, and for how long.
pub(super) const IDLE: usize = AT_ONCE;
pub(super) const IDLE_FOR: Duration = Duration::from_secs(30);
/// The header with the ACL token.
pub(super) const TOKEN: &str = "x-consul-token";
/// Who we say we are.
pub(super) const USER_AGENT: &str = concat!("discox/", env!("CARGO_PKG_VERSION"));

/// One agent. Nothing is sent before the first request; every connection looks the host's name up
/// again.
pub(crate) struct Client {
    http: Http,
    target: Target,
    gate: Semaphore,
}

/// Where requests go, on whose behalf, and how long they may take.
pub(crate) struct Target {
    pub(crate) address: Address,
    /// For an address with `https`.
    #[cfg_attr(not(feature = "reqwest"), expect(dead_code, reason = "the other client has no TLS of ours"))]
    pub(crate) tls: TlsConfig,
    pub(crate) token: Token,
    /// What every request says: namespace and partition.
    pub(crate) scope: Vec<(&'static str, String)>,
    pub(crate) connect_timeout: Duration,
    /// The longest wait for the answer to an ordinary request.
    pub(crate) patience: Duration,
    /// The longest list that is read, in bytes.
    pub(crate) longest_list: usize,
}

/// The client crate that serves.
enum Http {
    #[cfg(feature = "consulrs")]
    Consulrs(consulrs::Http),
    #[cfg(feature = "reqwest")]
    Reqwest(reqwest::Http),
}

/// The client crate that serves: the wanted one, else the first that is compiled in.
///
/// # Errors
/// Of kind [`Config`](discox_core::ErrorKind::Config) when the wanted one is not compiled in.
pub(crate) fn serving(wanted: Option<ClientCrate>) -> std::result::Result<ClientCrate, Error> {
    let compiled_in = [
        #[cfg(feature = "reqwest")]
        ClientCrate::Reqwest,
        #[cfg(feature = "consulrs")]
        ClientCrate::Consulrs,
    ];
    let client = wanted.unwrap_or(compiled_in[0]);
    if compiled_in.contains(&client) {
        return Ok(client);
    }
    Err(Error::config("client", client, format_args!("not compiled in: enable the feature `{client}`")))
}

impl Client {
    /// A client of the agent at `target`, by the client crate that [`serving`] named. No I/O.
    pub(crate) fn new(target: Target, by: ClientCrate) -> Result<Self> {
        let http = match by {
            #[cfg(feature = "consulrs")]
            ClientCrate::Consulrs => Http::Consulrs(consulrs::Http::new(&target)?),
            #[cfg(feature = "reqwest")]
            ClientCrate::Reqwest => Http::Reqwest(reqwest::Http::new(&target)?),
            other => return Err(Fault::Malformed(format!("{other} is not compiled in"))),
        };
        Ok(Self { http, target, gate: Semaphore::new(AT_ONCE) })
    }

    /// An ordinary request: it waits its turn.
    pub(super) async fn ask(&self, request: Request<'_>) -> Result<Reply> {
        let _turn = self.gate.acquire().await;
        self.send(request, self.target.patience).await
    }

    /// An ordinary request that never waits for others.
    pub(super) async fn ask_at_once(&self, request: Request<'_>) -> Result<Reply> {
        self.send(request, self.target.patience).await
    }

    /// A request that the agent may hold, which never waits for others.
    pub(super) async fn ask_held(&self, request: Request<'_>, hold: Hold) -> Result<Reply> {
        let request = request.with("wait", format!("{}ms", hold.wait.as_millis()));
        self.send(request, hold.limit()).await
    }

    /// The token is to be read anew: what it may do is not enough.
    pub(crate) fn forget_token(&self) {
        self.target.token.forget();
    }

    /// Sends a request whose answer begins within `limit`, and reads it to its end. When it is denied and
    /// there is another token by now, that one is tried.
    async fn send(&self, mut request: Request<'_>, limit: Duration) -> Result<Reply> {
        request.query.extend(self.target.scope.iter().cloned());
        let token = &self.target.token;
        request.token = token.text().map_err(Fault::Refused)?;
        let answer = self.exchange(&request, limit).await;
        if !matches!(answer, Err(Fault::Denied(..))) {
            return answer;
        }
        token.forget();
        let now = token.text().map_err(Fault::Refused)?;
        if now == request.token {
            return answer;
        }
        request.token = now;
        self.exchange(&request, limit).await
    }

    async fn exchange(&self, request: &Request<'_>, limit: Duration) -> Result<Reply> {
        let reading = self.target.patience * READING;
        let list = request.list.then_some(self.target.longest_list);
        match &self.http {
            #[cfg(feature = "consulrs")]
            Http::Consulrs(http) => complete(http.send(request), limit, reading, list).await,
            #[cfg(feature = "reqwest")]
            Http::Reqwest(http) => complete(http.send(request), limit, reading, list).await,
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

/// One request, as it is put together. It has no `Debug`, because of the token.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Below `/v1`, in segments.
    pub(super) path: &'a [&'a str],
    pub(super) query: Vec<(&'static str, String)>,
    /// JSON.
    pub(super) body: Option<Bytes>,
    pub(super) token: Option<Text>,
    /// The answer is a list.
    list: bool,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, path: &'a [&'a str]) -> Self {
        Self { method, path, query: Vec::new(), body: None, token: None, list: false }
    }

    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self::new(Method::Get, path)
    }

    /// For what may be long.
    pub(super) fn list(path: &'a [&'a str]) -> Self {
        Self { list: true, ..Self::get(path) }
    }

    pub(super) fn put(path: &'a [&'a str]) -> Self {
        Self::new(Method::Put, path)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn at(self, datacenter: Option<&str>) -> Self {
        match datacenter {
            Some(datacenter) => self.with("dc", datacenter),
            None => self,
        }
    }

    pub(super) fn body(mut self, body: &impl Serialize) -> Result<Self> {
        self.body = Some(serde_json::to_vec(body).map_err(malformed)?.into());
        Ok(self)
    }
}

/// An answer that has begun, of one of the client crates.
pub(super) trait Answer: Send {
    fn status(&self) -> u16;

    /// A header that is text, by its name in small letters.
    fn header(&self, name: &str) -> Option<&str>;

    /// The next piece of the body; none at its end.
    fn piece(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

/// A good answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    /// `X-Consul-Index`; 0 when Consul did not say.
    pub(super) index: u64,
    /// `X-Consul-ContentHash`.
    pub(super) content_hash: String,
    /// `X-Consul-Results-Filtered-By-ACLs`.
    pub(super) filtered_by_acl: bool,
    body: Bytes,
}

impl Reply {
    async fn read(mut answer: impl Answer, list: Option<usize>) -> Result<Self> {
        if answer.status() != 200 {
            return Err(explained(answer).await?);
        }
        let mut body = BytesMut::new();
        while let Some(piece) = answer.piece().await? {
            if body.len() + piece.len() > list.unwrap_or(LONGEST_ANSWER) {
                return Err(list.map_or_else(|| malformed("it has no end"), Fault::TooLarge));
            }
            body.extend_from_slice(&piece);
        }
        let header = |name| answer.header(name).unwrap_or_default();
        Ok(Self {
            index: header("x-consul-index").parse().unwrap_or(0),
            content_hash: header("x-consul-contenthash").to_owned(),
            filtered_by_acl: header("x-consul-results-filtered-by-acls") == "true",
            body: body.freeze(),
        })
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(malformed)
    }
}

/// What Consul wrote instead of a good answer: its beginning, fit for an error message.
async fn explained(mut answer: impl Answer) -> Result<Fault> {
    let mut said = BytesMut::new();
    while let Some(piece) = answer.piece().await? {
        let room = LONGEST_EXPLANATION - said.len();
        said.extend_from_slice(&piece[..piece.len().min(room)]);
        if said.len() == LONGEST_EXPLANATION {
            break;
        }
    }
    let said = String::from_utf8_lossy(&said);
    let on_one_line = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let denied = matches!(answer.status(), 401 | 403) || DENIALS.iter().any(|words| said.contains(words));
    let fault = if denied { Fault::Denied } else { Fault::Status };
    Ok(fault(answer.status(), on_one_line))
}

/// Waits for an answer to begin within `limit`, and reads it within `reading`.
async fn complete<A: Answer>(
    answer: impl Future<Output = Result<A>>,
    limit: Duration,
    reading: Duration,
    list: Option<usize>,
) -> Result<Reply> {
    let answer = in_time(limit, answer).await??;
    in_time(reading, Reply::read(answer, list)).await?
}

async fn in_time<T>(limit: Duration, answer: impl Future<Output = T>) -> Result<T> {
    timeout(limit, answer).await.map_err(|_| Fault::TimedOut(limit))
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.target.address).finish_non_exhaustive()
    }
}
