//! One request to one endpoint, and what its failure means.

use std::error::Error as _;

use discox_balance::{Failed, Pick};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, HOST},
    uri::Authority,
};

use crate::{
    Answer, Error,
    connection::{Link, Unanswered},
    outgoing::{Outgoing, RequestBody, Resendable},
};

/// Sends a request. `address` completes its URI for the endpoint.
pub(crate) async fn send<B>(
    pick: Pick<Link<B>>,
    outgoing: Outgoing<B>,
    address: impl FnOnce(&mut Uri, Option<&Authority>),
) -> Result<Response<Answer<B>>, Failed<Outgoing<B>, Error>>
where
    B: RequestBody,
{
    let (mut request, spare) = outgoing.depart();
    address(request.uri_mut(), pick.connection().authority());
    if pick.connection().is_http1() {
        to_origin_form(&mut request);
    }
    let endpoint = || pick.endpoint().into();
    let failed = match pick.connection().send(request).await {
        Ok((response, lease)) => {
            match outcome(response.status(), response.headers()) {
                Some(true) => pick.success(),
                Some(false) => pick.failure(),
                None => {}
            }
            return Ok(response.map(|body| Answer::new(body, pick, lease)));
        }
        Err(failed) => failed,
    };
    let mut failed = match failed {
        Unanswered::NotConnected(request, why) => {
            pick.failure();
            let error = Error::NotConnected { endpoint: endpoint(), why };
            return Err(Failed { error, request: Some(spare.with(request.into_body())) });
        }
        Unanswered::Failed(failed) => failed,
    };
    let unsent = failed.take_message();
    let source = failed.into_error();
    if let Some(request) = unsent {
        let error = Error::NotProcessed { endpoint: endpoint(), source };
        return Err(Failed { error, request: Some(spare.with(request.into_body())) });
    }
    if is_refused(&source) {
        let error = Error::NotProcessed { endpoint: endpoint(), source };
        return Err(Failed { error, request: spare.again() });
    }
    if !source.is_user() {
        pick.failure();
    }
    let error = Error::Broken { endpoint: endpoint(), source };
    let request = if spare.is_repeatable() { spare.again() } else { None };
    Err(Failed { error, request })
}

/// Whether the server says that it has not looked at the request (RFC 9113, sections 6.8 and 8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let Some(h2) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else { return false };
    let is_reset = h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 tells a GOAWAY only to streams above the last one that the server has taken.
    is_reset || (h2.is_go_away() && h2.is_remote())
}

/// HTTP/1.1 names the host in a header of its own (RFC 9112, section 3.2.1).
fn to_origin_form<B>(request: &mut Request<Resendable<B>>) {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    if !request.headers().contains_key(HOST)
        && let Some(host) = authority.and_then(|authority| HeaderValue::try_from(authority).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
}

/// What an answer says of its endpoint. None where gRPC tells it in the trailers.
fn outcome(status: StatusCode, headers: &HeaderMap) -> Option<bool> {
    let is_grpc =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc && status == StatusCode::OK {
        return grpc_outcome(headers);
    }
    let failed = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    Some(!failed.contains(&status))
}

/// What the end of an answer of gRPC says of its endpoint: only UNAVAILABLE is its fault.
pub(crate) fn grpc_outcome(headers: &HeaderMap) -> Option<bool> {
    headers.get("grpc-status").map(|status| status != "14")
}
