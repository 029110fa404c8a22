//! TLS for the discox backends: a [`TlsConfig`] into what `rustls` takes, and what a failed handshake
//! means, so that all backends trust the same and say the same.
//!
//! It is no backend and nothing that users need to name.

mod dial;
mod explain;
mod inspect;
mod material;

use std::{io, sync::Arc};

use discox_core::{Error, ErrorKind, Result, TlsConfig};
use rustls::pki_types::ServerName;
pub use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;

pub use crate::{
    dial::dial,
    explain::explain,
    inspect::shown_certificates,
    material::{client_config, files, provide, roots},
};

/// What is read of an answer to a probe.
const ANSWER: usize = 4096;

/// The name that the server's certificate must have: the one configured, else the host of its address
/// (an IPv6 address without brackets).
///
/// # Errors
/// [`Config`](ErrorKind::Config), naming `tls.server_name`.
pub fn server_name(tls: &TlsConfig, host: &str) -> Result<ServerName<'static>> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(name.to_owned())
        .map_err(|_| Error::config("tls.server_name", name, "neither a DNS name nor an address"))
}

/// The handshake over a connection that has just been made to `host`. Cancel-safe in that nothing
/// outlives its future. Bounded by the caller's time-out.
///
/// # Errors
/// As [`explain`] says; [`Unavailable`](ErrorKind::Unavailable) when the connection was closed.
pub async fn handshake(
    tls: &TlsConfig,
    config: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>> {
    let name = server_name(tls, host)?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| failed(tls, &error))
}

/// Finds out why a server does not accept us, for clients that do not tell: a handshake, `hello`, and
/// the beginning of what comes back. In TLS 1.3 the refusal of a client certificate shows only then
/// (RFC 8446, section 4.4.2.4).
///
/// # Errors
/// As [`handshake`].
pub async fn probe(
    tls: &TlsConfig,
    config: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
    hello: &[u8],
) -> Result<Vec<u8>> {
    let mut stream = handshake(tls, config, host, stream).await?;
    let answered = async {
        // Who has refused us may have hung up already: what it said is still there to be read.
        if stream.write_all(hello).await.is_ok() {
            let _ = stream.flush().await;
        }
        let mut answer = vec![0; ANSWER];
        let length = stream.read(&mut answer).await?;
        answer.truncate(length);
        if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
    };
    answered.await.map_err(|error| failed(tls, &error))
}

/// Only an alert is a refusal. Balancers and proxies whose server is away accept connections and close them, and so
/// does a server that restarts.
fn failed(tls: &TlsConfig, error: &io::Error) -> Error {
    explain(error, tls.cert.is_some()).unwrap_or_else(|| {
        let hint = if error.kind() == io::ErrorKind::UnexpectedEof && tls.cert.is_none() {
            ": a proxy whose server is away does this, and some servers do it when they want a client certificate"
        } else {
            ""
        };
        Error::new(ErrorKind::Unavailable, format!("the TLS connection was closed ({error}){hint}"))
    })
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::TcpListener,
        time::{Duration, timeout},
    };

    use super::*;

    /// Both at the handshake's first byte, which is read before, and after it.
    #[tokio::test]
    async fn who_only_hangs_up_has_not_refused_us() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            for reads in [false, true] {
                let (mut stream, _) = listener.accept().await.unwrap();
                if reads {
                    // By FIN: nothing that was sent is left unread.
                    let mut hello = [0; 4096];
                    assert!(stream.read(&mut hello).await.unwrap() > 0);
                }
                drop(stream);
            }
        });
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem();
        let tls = TlsConfig { ca: Some(ca.into()), ..Default::default() };
        for _ in 0..2 {
            let stream = TcpStream::connect(address).await.unwrap();
            let config = client_config(&tls, &[]).unwrap();
            let shaken = timeout(Duration::from_secs(10), handshake(&tls, config, "127.0.0.1", stream)).await;
            let error = shaken.unwrap().unwrap_err();
            assert_eq!((error.kind(), error.denial()), (ErrorKind::Unavailable, None), "{error}");
        }
        server.await.unwrap();
    }
}
