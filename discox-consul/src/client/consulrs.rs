//! Requests by `consulrs`: it makes them, and its HTTP client sends them. What it does badly is kept
//! away from the rest here: it encodes a path twice, has no time-outs, reads answers of any length,
//! and panics on tokens and headers that are not plain ASCII; so answers are read by us.

use bytes::Bytes;
use consulrs::client::{Client as _, ConsulClient, ConsulClientSettings};
use reqwest_for_consulrs::{Client, Response, redirect::Policy};
use rustify::{
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError,
};

use super::{
    fault::{Fault, Result, malformed},
    http::{Answer, IDLE, IDLE_FOR, Method, Request, TOKEN, Target, USER_AGENT},
};

pub(super) struct Http(ConsulClient);

impl Http {
    pub(super) fn new(target: &Target) -> Result<Self> {
        let base = target.address.to_string();
        // Not `ConsulClient::new`: that client waits for ever, and takes settings from the environment.
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(target.connect_timeout)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .redirect(Policy::none())
            .no_proxy()
            .use_rustls_tls()
            .build()
            .map_err(fault)?;
        let settings = ConsulClientSettings {
            address: base.clone(),
            ca_certs: Vec::new(),
            client_cert: None,
            client_key: None,
            token: None,
            verify: true,
            version: 1,
        };
        let http = rustify::clients::reqwest::Client::new(&base, client);
        Ok(Self(ConsulClient { http, settings }))
    }

    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response> {
        let http = self.0.http();
        let mut middle = self.0.middle(None);
        middle.token = request.token.as_ref().map(|token| token.reveal().to_owned());
        let mut made = request.with_middleware(&middle).request(&http.base).map_err(malformed)?;
        *made.uri_mut() = encoded_once(made.uri().to_string()).parse().map_err(malformed)?;
        let mut made = reqwest_for_consulrs::Request::try_from(made).map_err(fault)?;
        if let Some(token) = made.headers_mut().get_mut(TOKEN) {
            token.set_sensitive(true);
        }
        if request.body.is_some() {
            made.headers_mut().insert("content-type", "application/json".parse().map_err(malformed)?);
        }
        http.http.execute(made).await.map_err(fault)
    }
}

/// Undoes the second encoding of a path, which has made `%25` of each `%`.
fn encoded_once(uri: String) -> String {
    match uri.split_once('?') {
        Some((path, query)) => format!("{}?{query}", path.replace("%25", "%")),
        None => uri.replace("%25", "%"),
    }
}

impl Endpoint for &Request<'_> {
    /// Nothing: it is not read by `rustify`.
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.join("/")
    }

    fn method(&self) -> RequestMethod {
        match self.method {
            Method::Get => RequestMethod::GET,
            Method::Post => RequestMethod::POST,
            Method::Put => RequestMethod::PUT,
        }
    }

    fn query(&self) -> std::result::Result<Option<String>, ClientError> {
        if self.query.is_empty() {
            return Ok(None);
        }
        rustify::http::build_query(&self.query).map(Some)
    }

    fn body(&self) -> std::result::Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.as_ref().map(|body| body.to_vec()))
    }
}

impl Answer for Response {
    fn status(&self) -> u16 {
        Response::status(self).as_u16()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.chunk().await.map_err(fault)
    }
}

fn fault(error: reqwest_for_consulrs::Error) -> Fault {
    Fault::Unreachable(Box::new(error.without_url()))
}
