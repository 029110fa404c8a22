//! A channel to one member: TCP, and TLS where it is asked for.
//!
//! TLS is done here and not by `tonic`, whose features are the whole program's: another crate could
//! switch them, or the kind of certificates that they trust.

use std::sync::Arc;

use discox_core::{Error, ErrorKind, Result, TlsConfig};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::wire::{Bytes, Wire, WireNews};
use crate::error;

/// What gRPC speaks (RFC 7540, section 3.1).
const HTTP_2: &[u8] = b"h2";

/// How a client begins: the preface and empty settings (RFC 7540, sections 3.5 and 6.5).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The length of a frame's head, and where the kind of frame is in it.
const HEAD: usize = 9;
const KIND: usize = 3;
const SETTINGS_FRAME: u8 = 4;

/// TLS as it is set, and read from its files.
#[derive(Clone)]
pub(crate) struct Tls {
    settings: Arc<TlsConfig>,
    config: Arc<discox_tls::ClientConfig>,
}

impl Tls {
    /// Reads the files; blocks.
    pub(crate) fn read(settings: &TlsConfig) -> Result<Self> {
        let config = discox_tls::client_config(settings, &[HTTP_2])?;
        Ok(Self { settings: Arc::new(settings.clone()), config })
    }
}

/// An endpoint that `tonic` takes for plain text, whatever it is; requests say what it is.
pub(crate) fn endpoint(uri: Uri) -> Result<Endpoint, tonic::codegen::http::Error> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(tonic::codegen::http::uri::Scheme::HTTP);
    parts.path_and_query = Some(tonic::codegen::http::uri::PathAndQuery::from_static("/"));
    Ok(Endpoint::from(Uri::from_parts(parts)?).origin(uri))
}

/// Connects. `news` hears what the bytes tell.
pub(crate) async fn channel(endpoint: &Endpoint, tls: Option<&Tls>, news: Arc<WireNews>) -> Result<Channel> {
    let identified = tls.is_some_and(|tls| tls.settings.cert.is_some());
    let tls = tls.cloned();
    let dial = service_fn(move |uri: Uri| {
        let (tls, news) = (tls.clone(), news.clone());
        async move {
            let host = uri.host().unwrap_or_default();
            let stream = discox_tls::dial(host, uri.port_u16().unwrap_or_default()).await?;
            let stream: Box<dyn Bytes> = match tls {
                None => Box::new(stream),
                Some(Tls { settings, config }) => {
                    Box::new(discox_tls::handshake(&settings, config, host, stream).await?)
                }
            };
            Ok::<_, Error>(TokioIo::new(Wire::new(stream, news)))
        }
    });
    endpoint.connect_with_connector(dial).await.map_err(|error| error::transport(error, identified))
}

/// Why a member does not talk TLS with us: what it said is lost when it hangs up while we still write. Bounded by
/// the caller's time-out.
pub(crate) async fn why_refused(uri: &Uri, tls: &Tls, error: Error) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    match probe(uri, tls).await {
        Err(told) if told.kind() == ErrorKind::Denied => told,
        Err(_) if speaks_plain_text(uri).await.unwrap_or(false) => Error::new(
            ErrorKind::Protocol,
            "the server speaks plain text here: use http://, or its port for TLS",
        ),
        _ => error,
    }
}

async fn probe(uri: &Uri, tls: &Tls) -> Result<Vec<u8>> {
    let host = uri.host().unwrap_or_default();
    let stream = discox_tls::dial(host, uri.port_u16().unwrap_or_default()).await?;
    discox_tls::probe(&tls.settings, tls.config.clone(), host, stream, HELLO).await
}

/// Whether it answers with settings to who begins in plain text.
async fn speaks_plain_text(uri: &Uri) -> Result<bool> {
    let mut stream =
        discox_tls::dial(uri.host().unwrap_or_default(), uri.port_u16().unwrap_or_default()).await?;
    let mut head = [0; HEAD];
    let answer = async {
        stream.write_all(HELLO).await?;
        stream.read_exact(&mut head).await
    };
    Ok(answer.await.is_ok() && head.get(KIND) == Some(&SETTINGS_FRAME))
}
