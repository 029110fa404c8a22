//! A request and its answer, as all client crates are given and give them.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use discox_core::TlsConfig;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    fault::{Fault, Result, malformed},
    token::{Text, Token, TokenVersion},
};
use crate::address::Address;

/// The longest answer that is read of what is no list, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;
/// The longest explanation of an error that is read, in bytes.
const LONGEST_EXPLANATION: usize = 512;
/// By which a denial is known, whatever its status: from a server behind the agent it comes as 500.
const DENIALS: [&str; 3] = ["Permission denied", "ACL not found", "lacks permission"];
/// Connections that are kept for the next request, and for how long.
pub(super) const IDLE: usize = 32;
pub(super) const IDLE_FOR: Duration = Duration::from_secs(30);
/// The header with the ACL token.
pub(super) const TOKEN: &str = "x-consul-token";
/// Who we say we are.
pub(super) const USER_AGENT: &str = concat!("discox/", env!("CARGO_PKG_VERSION"));

/// Where requests go, on whose behalf, and how long they may take.
pub(crate) struct Target {
    pub(crate) address: Address,
    /// For an address with `https`.
    #[cfg_attr(not(feature = "reqwest"), expect(dead_code, reason = "the other client has no TLS of ours"))]
    pub(crate) tls: TlsConfig,
    pub(crate) token: Arc<Token>,
    /// What every request says: namespace and partition.
    pub(crate) scope: Vec<(&'static str, String)>,
    pub(crate) connect_timeout: Duration,
    /// The longest wait for the answer to an ordinary request.
    pub(crate) patience: Duration,
    /// The longest list that is read, in bytes.
    pub(crate) longest_list: usize,
}

/// What is asked for beyond a plain answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    /// How long the agent may hold the request.
    pub(crate) wait: Duration,
    /// How much longer the answer may take.
    pub(crate) margin: Duration,
}

impl Hold {
    /// When a held request counts as lost: Consul adds up to a sixteenth to the wait.
    pub(crate) fn limit(self) -> Duration {
        self.wait + self.wait / 16 + self.margin
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
    pub(super) list: bool,
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

/// Takes the body of a good answer, piece by piece.
pub(crate) trait Body: Send {
    /// Takes the next piece.
    ///
    /// # Errors
    /// It is not what was asked for: no more of it is read.
    fn take(&mut self, piece: &[u8]) -> Result<()>;
}

/// A body that is kept as a whole.
impl Body for BytesMut {
    fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.extend_from_slice(piece);
        Ok(())
    }
}

/// What a good answer says before its body.
#[derive(Debug)]
pub(crate) struct Head {
    /// `X-Consul-Index`, where the next blocking query goes on; 0 when Consul did not say.
    pub(crate) index: u64,
    /// `X-Consul-ContentHash`.
    pub(super) content_hash: String,
    /// Consul left out what the token may not see. Only newer servers say so.
    pub(crate) filtered_by_acl: bool,
    /// The token that was sent.
    pub(super) token: TokenVersion,
}

impl Head {
    /// Reads an answer to its end. A list has at most `list` bytes, anything else [`LONGEST_ANSWER`].
    pub(super) async fn read(
        mut answer: impl Answer,
        list: Option<usize>,
        body: &mut impl Body,
    ) -> Result<Self> {
        if answer.status() != 200 {
            return Err(explained(answer).await?);
        }
        let mut left = list.unwrap_or(LONGEST_ANSWER);
        while let Some(piece) = answer.piece().await? {
            let is_too_long = || list.map_or_else(|| malformed("it has no end"), Fault::TooLarge);
            left = left.checked_sub(piece.len()).ok_or_else(is_too_long)?;
            body.take(&piece)?;
        }
        let header = |name| answer.header(name).unwrap_or_default();
        Ok(Self {
            index: header("x-consul-index").parse().unwrap_or(0),
            content_hash: header("x-consul-contenthash").to_owned(),
            filtered_by_acl: header("x-consul-results-filtered-by-acls") == "true",
            token: 0,
        })
    }
}

/// A good answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Head,
    pub(super) body: Bytes,
}

impl Reply {
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
