//! The client of one agent: who may ask when, for how long, and with which token.

use std::{future::Future, time::Duration};

use bytes::BytesMut;
use discox_core::{ClientCrate, Error};
use tokio::{sync::Semaphore, time::timeout};

#[cfg(feature = "consulrs")]
use super::consulrs;
#[cfg(feature = "reqwest")]
use super::reqwest;
use super::{
    fault::{Fault, Result},
    http::{Answer, Body, Head, Hold, Reply, Request, Target},
    token::Text,
};

/// Ordinary requests under way at once. With the blocking queries that makes less than the 200
/// connections that an agent allows a client.
const AT_ONCE: usize = 32;
/// Once an answer has begun, it may take this many times the patience: it can be long.
const READING: u32 = 8;

/// One agent. Nothing is sent before the first request; every connection looks the host's name up
/// again.
pub(crate) struct Client {
    http: Http,
    target: Target,
    gate: Semaphore,
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
    Err(Error::config(
        "consul.client",
        client,
        format_args!("not compiled in: enable the feature `{client}`"),
    ))
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
        let mut body = BytesMut::new();
        let head = self.ask_into(request, &mut body).await?;
        Ok(Reply { head, body: body.freeze() })
    }

    /// The same, for a body that is read while it comes.
    pub(super) async fn ask_into(&self, request: Request<'_>, body: &mut impl Body) -> Result<Head> {
        let _turn = self.gate.acquire().await;
        self.send(request, self.target.patience, body).await
    }

    /// An ordinary request that never waits for others.
    pub(super) async fn ask_at_once(&self, request: Request<'_>) -> Result<Reply> {
        let mut body = BytesMut::new();
        let head = self.send(request, self.target.patience, &mut body).await?;
        Ok(Reply { head, body: body.freeze() })
    }

    /// A request that the agent may hold, which never waits for others.
    pub(super) async fn ask_held(
        &self,
        request: Request<'_>,
        hold: Hold,
        body: &mut impl Body,
    ) -> Result<Head> {
        let request = request.with("wait", format!("{}ms", hold.wait.as_millis()));
        self.send(request, hold.limit(), body).await
    }

    /// The token is to be read anew: what it may do is not enough.
    pub(crate) fn forget_token(&self) {
        self.target.token.forget();
    }

    /// Sends a request whose answer begins within `limit`, and reads it to its end. When it is denied and
    /// there is another token by now, that one is tried.
    async fn send(&self, mut request: Request<'_>, limit: Duration, body: &mut impl Body) -> Result<Head> {
        request.query.extend(self.target.scope.iter().cloned());
        let token = &self.target.token;
        request.token = token.text().await.map_err(Fault::Refused)?;
        let mut answer = self.exchange(&request, limit, body).await;
        if matches!(answer, Err(Fault::Denied(..))) {
            token.forget();
            let now = token.text().await.map_err(Fault::Refused)?;
            if version(now.as_ref()) != version(request.token.as_ref()) {
                request.token = now;
                answer = self.exchange(&request, limit, body).await;
            }
        }
        // A token that was just made reaches the servers of other datacenters, and what agents remember, later.
        if matches!(&answer, Err(Fault::Denied(_, said)) if said.contains("not found"))
            && let Some(previous) = token.previous()
        {
            request.token = Some(previous);
            let by_previous = self.exchange(&request, limit, body).await;
            return if matches!(by_previous, Err(Fault::Denied(..))) { answer } else { by_previous };
        }
        answer
    }

    async fn exchange(&self, request: &Request<'_>, limit: Duration, body: &mut impl Body) -> Result<Head> {
        let reading = self.target.patience * READING;
        let list = request.list.then_some(self.target.longest_list);
        let mut head = match &self.http {
            #[cfg(feature = "consulrs")]
            Http::Consulrs(http) => complete(http.send(request), limit, reading, list, body).await,
            #[cfg(feature = "reqwest")]
            Http::Reqwest(http) => complete(http.send(request), limit, reading, list, body).await,
        }?;
        head.token = version(request.token.as_ref());
        Ok(head)
    }
}

fn version(token: Option<&Text>) -> u64 {
    token.map_or(0, |token| token.version)
}

/// Waits for an answer to begin within `limit`, and reads it within `reading`.
async fn complete<A: Answer>(
    answer: impl Future<Output = Result<A>>,
    limit: Duration,
    reading: Duration,
    list: Option<usize>,
    body: &mut impl Body,
) -> Result<Head> {
    let answer = in_time(limit, answer).await??;
    in_time(reading, Head::read(answer, list, body)).await?
}

async fn in_time<T>(limit: Duration, answer: impl Future<Output = T>) -> Result<T> {
    timeout(limit, answer).await.map_err(|_| Fault::TimedOut(limit))
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.target.address).finish_non_exhaustive()
    }
}
