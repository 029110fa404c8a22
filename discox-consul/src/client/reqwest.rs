//! Requests by `reqwest`.

use bytes::Bytes;
use reqwest::{Response, Url, redirect::Policy};

use super::{
    Fault, Result,
    exchange::{Answer, IDLE, IDLE_FOR, Method, Request, Target, USER_AGENT},
    malformed,
};

pub(super) struct Http {
    client: reqwest::Client,
    base: Url,
}

impl Http {
    pub(super) fn new(target: &Target) -> Result<Self> {
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(target.connect_timeout)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(fault)?;
        Ok(Self { client, base: Url::parse(&target.base).map_err(malformed)? })
    }

    pub(super) async fn send(&self, request: Request<'_>) -> Result<Response> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(request.path);
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut building = self.client.request(method, url);
        if let Some(body) = request.body {
            building = building.header("content-type", "application/json").body(body);
        }
        building.send().await.map_err(fault)
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

fn fault(error: reqwest::Error) -> Fault {
    Fault::Unreachable(Box::new(error.without_url()))
}
