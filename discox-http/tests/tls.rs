//! The channel over TLS, to real servers on the loopback: who is trusted, by which name, and what is told otherwise.

#![allow(clippy::unwrap_used)]

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{Router, serve::Listener};
use bytes::Bytes;
use discox_core::{EndpointCacher, Event, LiteEndpoint, TlsConfig};
use discox_http::{Channel, Options, Protocol};
use discox_testkit::authority::{Authority, Identity, SERVER_NAME};
use http_body_util::{BodyExt, Full};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Accepts who has a certificate of the authority.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, from)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A server that has this identity, on this address of the loopback.
async fn server(at: &str, identity: &Identity, authority: &Authority) -> Result<String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes())?)?;
    let known = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<_, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(known)
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind(at).await?;
    let endpoint = listener.local_addr()?.to_string();
    let secure = Secure { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
    let app =
        Router::new().fallback(async |request: axum::extract::Request| format!("{:?}", request.version()));
    tokio::spawn(async move { axum::serve(secure, app).await });
    Ok(endpoint)
}

fn channel(endpoint: &str, tls: TlsConfig, protocol: Protocol) -> Channel<Full<Bytes>> {
    let cache = Arc::new(LiteEndpoint::new());
    cache.add_or_update(endpoint, b"");
    cache.on_event(&Event::Synced);
    let options = Options::default().named("orders").wait(Duration::from_secs(10));
    Channel::builder(cache).tls(tls).protocol(protocol).options(options).build()
}

fn client(authority: &Authority) -> Result<TlsConfig> {
    let identity = authority.client("a program")?;
    Ok(TlsConfig {
        ca: Some(authority.certificate().into()),
        cert: Some(identity.certificate.into()),
        key: Some(identity.key.into()),
        ..Default::default()
    })
}

async fn version(channel: &Channel<Full<Bytes>>) -> Result<String> {
    let answer = channel.send(http::Request::get("/").body(Full::default())?).await?;
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

#[tokio::test]
async fn both_protocols_go_over_mutual_tls_and_ipv6_too() -> Result<()> {
    let authority = Authority::new()?;
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let endpoint = server(at, &authority.server()?, &authority).await?;
        for (protocol, expected) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")] {
            let tls = TlsConfig { server_name: Some("localhost".into()), ..client(&authority)? };
            let version = version(&channel(&endpoint, tls, protocol)).await.context(endpoint.clone())?;
            assert_eq!(version, expected);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_goes_by_another_name_only_where_that_is_said() -> Result<()> {
    let authority = Authority::new()?;
    let endpoint = server("127.0.0.1:0", &authority.server_named(SERVER_NAME)?, &authority).await?;
    let named = TlsConfig { server_name: Some(SERVER_NAME.into()), ..client(&authority)? };
    assert_eq!(version(&channel(&endpoint, named, Protocol::Http2)).await?, "HTTP/2.0");
    let error = version(&channel(&endpoint, client(&authority)?, Protocol::Http2)).await.unwrap_err();
    assert!(error.to_string().contains("can be reached") && error.to_string().contains("name"), "{error}");
    Ok(())
}

#[tokio::test]
async fn who_is_not_trusted_is_told_to_each_request() -> Result<()> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let endpoint = server("127.0.0.1:0", &authority.server()?, &authority).await?;
    let tls = TlsConfig { ca: Some(stranger.certificate().into()), ..client(&authority)? };
    let error = version(&channel(&endpoint, tls, Protocol::Http1)).await.unwrap_err();
    assert!(error.to_string().contains(&endpoint) && error.to_string().contains("UnknownIssuer"), "{error}");
    Ok(())
}
