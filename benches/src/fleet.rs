//! The endpoints that are measured with: `host:port` and some JSON.

use std::sync::Arc;

use bytes::Bytes;
use discox_core::{Update, backend::Listing};

/// The `i`-th endpoint.
pub fn endpoint(i: usize) -> String {
    format!("10.{}.{}.{}:8{:03}", i >> 16 & 255, i >> 8 & 255, i & 255, i % 1000)
}

/// What the `i`-th endpoint is registered with, the `version`-th time: 60 bytes or so, as in the wild.
pub fn attr(i: usize, version: usize) -> String {
    format!(
        r#"{{"weight":{},"zone":"z{}","version":"1.{version}","started":{}}}"#,
        1 + i % 9,
        i % 3,
        1_700_000_000 + i
    )
}

/// The first `n` endpoints, as a backend lists them.
pub fn list(n: usize) -> Listing {
    (0..n).map(|i| (Arc::from(endpoint(i)), Bytes::from(attr(i, 0)))).collect()
}

/// The first `n` endpoints, as a cacher is told of them.
pub fn puts(n: usize) -> Vec<Update> {
    list(n).into_iter().map(|(endpoint, attr)| Update::Put(endpoint, attr)).collect()
}
