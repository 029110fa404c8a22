//! Why a request was not answered.

use std::sync::Arc;

use discox_balance::Unavailable;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There was no endpoint for it. It was not sent.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It was not sent: no connection could be made for it.
    #[error("no connection to {endpoint}: {why}")]
    NotConnected {
        /// The last endpoint that was tried.
        endpoint: Arc<str>,
        /// What went wrong.
        why: String,
    },
    /// It was certainly not processed, by any endpoint that it was sent to.
    #[error("the request was not processed by {endpoint}: {source}")]
    NotProcessed {
        /// The last endpoint that it was sent to.
        endpoint: Arc<str>,
        /// What the connection says.
        source: hyper::Error,
    },
    /// The connection ended before there was an answer. It may have been processed.
    #[error("no answer from {endpoint}, which may have processed the request: {source}")]
    Broken {
        /// The endpoint that it was sent to.
        endpoint: Arc<str>,
        /// What the connection says.
        source: hyper::Error,
    },
}

impl Error {
    /// Whether the request was certainly not processed, so that it may be sent again, whatever its method.
    pub fn is_unprocessed(&self) -> bool {
        !matches!(self, Self::Broken { .. })
    }
}
