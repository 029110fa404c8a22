//! TCP, and TLS where it is asked for.

use std::{fmt, sync::Arc, time::Duration};

use discox_balance::Target;
use discox_core::{Error, TlsConfig, backend::Files};
use tokio::io::{AsyncRead, AsyncWrite};

/// The names of the protocols in TLS (RFC 7301).
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// How long certificates may take to be read.
const READS_WITHIN: Duration = Duration::from_secs(2);

/// Both ends of a connection, in plain text or in TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) type Io = Box<dyn Stream>;

/// Reaches endpoints.
pub(crate) struct Dial {
    tls: Option<Tls>,
}

struct Tls {
    settings: Arc<TlsConfig>,
    files: Files,
    protocol: &'static [u8],
}

impl Dial {
    pub(crate) fn new(tls: Option<TlsConfig>, is_http2: bool) -> Self {
        let protocol = if is_http2 { HTTP_2 } else { HTTP_1 };
        let files = Files::new(READS_WITHIN);
        Self { tls: tls.map(|settings| Tls { settings: Arc::new(settings), files, protocol }) }
    }

    pub(crate) fn scheme(&self) -> http::uri::Scheme {
        if self.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP }
    }

    /// Connects. Certificates are read anew, so that they can be rotated.
    pub(crate) async fn reach(&self, target: &Target) -> Result<Io, String> {
        let text = |error: Error| error.message().to_owned();
        let stream = discox_tls::dial(target.host(), target.port()).await.map_err(text)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let config = tls.config().await.map_err(text)?;
        let shaken = discox_tls::handshake(&tls.settings, config, target.host(), stream).await;
        Ok(Box::new(shaken.map_err(text)?))
    }
}

impl Tls {
    async fn config(&self) -> Result<Arc<discox_tls::ClientConfig>, Error> {
        let (settings, protocol) = (self.settings.clone(), self.protocol);
        let read = move || discox_tls::client_config(&settings, &[protocol]);
        self.files.read(&discox_tls::files(&self.settings), read).await
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("scheme", &self.scheme()).finish()
    }
}
