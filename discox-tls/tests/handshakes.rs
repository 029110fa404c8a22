//! Real handshakes with a server of this process, one for each thing that can be wrong.

// Also in what the tests share.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use discox_core::{Denial, ErrorKind, Pem, Result, TlsConfig};
use discox_tls::{client_config, probe};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Issued(String, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str, expired: bool) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        Issued(params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> Pem {
        self.0.pem().into()
    }
}

/// A server that asks for a certificate of `clients`, if given, and answers a byte with a byte.
async fn serve(issued: &Issued, clients: Option<&Authority>) -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(issued.0.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.1.as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = match clients {
        None => builder.unwrap().with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.unwrap().with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await
                && stream.read_u8().await.is_ok()
            {
                let _ = stream.write_u8(1).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    port
}

async fn try_with(tls: &TlsConfig, port: u16) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    probe(tls, client_config(tls, &[])?, "127.0.0.1", stream, b"x").await.map(drop)
}

async fn denial(tls: &TlsConfig, port: u16) -> Option<Denial> {
    let error = try_with(tls, port).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    error.denial()
}

#[tokio::test]
async fn each_thing_that_can_be_wrong_is_told() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let trusting = TlsConfig { ca: Some(ours.pem()), ..Default::default() };

    let fine = serve(&ours.issue("127.0.0.1", false), None).await;
    try_with(&trusting, fine).await.unwrap();
    let stranger = TlsConfig { ca: Some(theirs.pem()), ..Default::default() };
    assert_eq!(denial(&stranger, fine).await, Some(Denial::UnknownAuthority));

    let named = serve(&ours.issue("etcd.example", false), None).await;
    assert_eq!(denial(&trusting, named).await, Some(Denial::WrongServerName));
    let overridden = TlsConfig { server_name: Some("etcd.example".into()), ..trusting.clone() };
    try_with(&overridden, named).await.unwrap();

    let expired = serve(&ours.issue("127.0.0.1", true), None).await;
    assert_eq!(denial(&trusting, expired).await, Some(Denial::ExpiredCertificate));
}

#[tokio::test]
async fn what_is_wrong_with_our_certificate_is_told() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let port = serve(&ours.issue("127.0.0.1", false), Some(&ours)).await;
    let trusting = TlsConfig { ca: Some(ours.pem()), ..Default::default() };
    let with = |Issued(cert, key): Issued| TlsConfig {
        cert: Some(cert.into()),
        key: Some(key.into()),
        ..trusting.clone()
    };
    assert_eq!(denial(&trusting, port).await, Some(Denial::NoClientCertificate));
    assert_eq!(denial(&with(theirs.issue("us", false)), port).await, Some(Denial::ClientCertificateRefused));
    assert_eq!(denial(&with(ours.issue("us", true)), port).await, Some(Denial::ClientCertificateRefused));
    try_with(&with(ours.issue("us", false)), port).await.unwrap();
}

#[tokio::test]
async fn a_rotated_file_is_used_from_the_next_connection_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let port = serve(&new.issue("127.0.0.1", false), None).await;
    let path = std::env::temp_dir().join(format!("discox-tls-{}.pem", std::process::id()));
    let tls = TlsConfig { ca: Some(Pem::File(path.clone())), ..Default::default() };
    let error = client_config(&tls, &[]).unwrap_err();
    assert!(error.to_string().contains("tls.ca") && error.to_string().contains(&*path.to_string_lossy()));
    std::fs::write(&path, old.0.pem()).unwrap();
    assert_eq!(denial(&tls, port).await, Some(Denial::UnknownAuthority));
    std::fs::write(&path, new.0.pem()).unwrap();
    try_with(&tls, port).await.unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        }
    });
    let tls = TlsConfig { ca: Some(Authority::new().pem()), ..Default::default() };
    let error = try_with(&tls, port).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}
