//! Where a request goes.

use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Requests name a path, and what stands before it is for the endpoint.
pub(crate) fn address(uri: &mut Uri, scheme: &Scheme, authority: Option<&Authority>) {
    let mut parts = std::mem::take(uri).into_parts();
    parts.authority = parts.authority.or_else(|| authority.cloned());
    // One is nothing without the other.
    parts.scheme = parts.authority.as_ref().map(|_| scheme.clone());
    parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    *uri = Uri::from_parts(parts).unwrap_or_default();
}
