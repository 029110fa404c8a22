//! Requests by `reqwest`.

use std::sync::Arc;

use bytes::Bytes;
use discox_core::{Error, TlsConfig};
use reqwest::{
    ClientBuilder, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderValue,
    redirect::Policy,
};
use tokio::net::lookup_host;

use super::{
    fault::{Fault, Result, malformed},
    http::{Answer, IDLE, IDLE_FOR, Method, Request, TOKEN, Target, USER_AGENT},
};
use crate::address::Address;

pub(super) struct Http {
    client: reqwest::Client,
    base: Url,
    /// We show a client certificate.
    identified: bool,
}

impl Http {
    pub(super) fn new(target: &Target) -> Result<Self> {
        let building = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(target.connect_timeout)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .redirect(Policy::none())
            .no_proxy();
        let (building, base) = match &target.address {
            Address::Http(host) => (without_tls(building), format!("http://{host}")),
            Address::Https(host) => with_tls(building, host, &target.tls).map_err(Fault::Refused)?,
            #[cfg(unix)]
            Address::Unix(path) => {
                (without_tls(building).unix_socket(path.as_path()), "http://localhost".to_owned())
            }
        };
        let client = building.build().map_err(|error| fault(error, false))?;
        let identified = target.tls.cert.is_some();
        Ok(Self { client, base: Url::parse(&base).map_err(malformed)?, identified })
    }

    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(request.path);
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut building = self.client.request(method, url);
        if let Some(body) = &request.body {
            building = building.header("content-type", "application/json").body(body.clone());
        }
        if let Some(token) = &request.token {
            let mut value = HeaderValue::from_str(token.reveal()).map_err(malformed)?;
            value.set_sensitive(true);
            building = building.header(TOKEN, value);
        }
        building.send().await.map_err(|error| fault(error, self.identified))
    }
}

/// Nothing of the operating system's is read for what needs no certificates.
fn without_tls(building: ClientBuilder) -> ClientBuilder {
    building.tls_certs_only([])
}

/// For a host with TLS, and the URL that asks for it: the server's name, if it is configured, stands in
/// the host's place there, and leads to the host.
fn with_tls(
    building: ClientBuilder,
    host: &str,
    tls: &TlsConfig,
) -> std::result::Result<(ClientBuilder, String), Error> {
    let config = discox_tls::client_config(tls, &[b"http/1.1"])?;
    let building = building.tls_backend_preconfigured(Arc::unwrap_or_clone(config));
    let Some(name) = &tls.server_name else { return Ok((building, format!("https://{host}"))) };
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    Ok((building.dns_resolver(To(host.to_owned())), format!("https://{name}:{port}")))
}

/// Whatever name is looked up, the addresses are this host's.
struct To(String);

impl Resolve for To {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = lookup_host(host).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
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
        self.chunk().await.map_err(|error| fault(error, false))
    }
}

fn fault(error: reqwest::Error, identified: bool) -> Fault {
    match discox_tls::explain(&error, identified) {
        Some(why) => Fault::Refused(why),
        None => Fault::Unreachable(Box::new(error.without_url())),
    }
}
