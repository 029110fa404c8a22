//! A channel to one member: TCP, and TLS where it is asked for.
//!
//! TLS is done here and not by `tonic`, whose features are the whole program's: another crate could
//! switch them, or the kind of certificates that they trust.

use std::sync::Arc;

use discox_core::{Error, ErrorKind, Result, TlsConfig};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::error;

/// What gRPC speaks (RFC 7540, section 3.1).
const HTTP_2: &[u8] = b"h2";

/// How a client begins: the preface and empty settings (RFC 7540, sections 3.5 and 6.5).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An endpoint that `tonic` takes for plain text, whatever it is; requests say what it is.
pub(crate) fn endpoint(uri: Uri) -> Result<Endpoint, tonic::codegen::http::Error> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(tonic::codegen::http::uri::Scheme::HTTP);
    parts.path_and_query = Some(tonic::codegen::http::uri::PathAndQuery::from_static("/"));
    Ok(Endpoint::from(Uri::from_parts(parts)?).origin(uri))
}

/// Connects; certificates and keys are read anew.
pub(crate) async fn channel(endpoint: &Endpoint, tls: Option<&TlsConfig>) -> Result<Channel> {
    let failed = |error| error::transport(error, tls.is_some_and(|tls| tls.cert.is_some()));
    let Some(tls) = tls else { return endpoint.connect().await.map_err(failed) };
    let config = discox_tls::client_config(tls, &[HTTP_2])?;
    let tls = Arc::new(tls.clone());
    let dial = service_fn(move |uri: Uri| {
        let (tls, config) = (tls.clone(), config.clone());
        async move {
            let host = uri.host().unwrap_or_default();
            let stream = dial(host, uri.port_u16().unwrap_or_default()).await?;
            discox_tls::handshake(&tls, config, host, stream).await.map(TokioIo::new)
        }
    });
    endpoint.connect_with_connector(dial).await.map_err(failed)
}

/// Why a member does not talk to us: what it said is lost when it hangs up while we still write. Bounded by the
/// caller's time-out.
pub(crate) async fn why_refused(uri: &Uri, tls: &TlsConfig, error: Error) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let asked = async {
        let config = discox_tls::client_config(tls, &[HTTP_2])?;
        let host = uri.host().unwrap_or_default();
        let stream = dial(host, uri.port_u16().unwrap_or_default()).await?;
        discox_tls::probe(tls, config, host, stream, HELLO).await
    };
    match asked.await {
        Err(told) if told.kind() == ErrorKind::Denied => told,
        _ => error,
    }
}

/// Looks the host's name up anew, and tries its addresses in turn.
async fn dial(host: &str, port: u16) -> Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = TcpStream::connect((host, port)).await.and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    connected.map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()).caused_by(error))
}
