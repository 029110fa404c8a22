//! Who may read: whoever brings the token, or without a token whoever is on this machine.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::Response,
};
use discox::Secret;
use subtle::ConstantTimeEq;

use super::{Settings, Shared, counts::add, reply};

/// What a request has to bring.
pub(super) enum Access {
    /// The token.
    Token(Secret),
    /// A name of this machine: a page of somebody else's, whose name was made to point here, may not read.
    Loopback,
}

/// What needs no token: it shows nothing.
const OPEN: [&str; 3] = ["/", "/healthz", "/readyz"];

impl Access {
    pub(super) fn new(settings: &Settings) -> Self {
        settings.token.clone().map_or(Self::Loopback, Self::Token)
    }
}

/// Lets a request through, or says why not.
pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply::error(StatusCode::METHOD_NOT_ALLOWED, "read-only: use GET");
    }
    let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| request.headers().get(name).is_some_and(|value| value != "0"));
    if has_body {
        return reply::error(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here");
    }
    let is_open = OPEN.contains(&request.uri().path());
    match &shared.access {
        Access::Token(token) if !is_open && !brings(request.headers(), token) => {
            add(&shared.counts.refused_tokens);
            let mut refused = reply::error(StatusCode::UNAUTHORIZED, "no access token, or a wrong one");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, reply::BEARER);
            refused
        }
        Access::Loopback if !names_this_machine(&request) => {
            add(&shared.counts.refused_hosts);
            reply::error(
                StatusCode::MISDIRECTED_REQUEST,
                "without an access token this is for 127.0.0.1, [::1] and localhost only",
            )
        }
        _ => next.run(request).await,
    }
}

/// How long the comparison takes tells nothing of the token but its length.
fn brings(headers: &HeaderMap, token: &Secret) -> bool {
    let brought = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let brought = brought.and_then(|value| value.split_at_checked("Bearer ".len()));
    let brought =
        brought.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, token)| token);
    let wanted = token.text().unwrap_or_default().as_bytes();
    brought.is_some_and(|brought| !wanted.is_empty() && brought.ct_eq(wanted).into())
}

fn names_this_machine(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(name: header::HeaderName, value: &str) -> Request {
        Request::builder().header(name, value).body(Body::empty()).unwrap()
    }

    #[test]
    fn only_the_very_token_is_one() {
        let token = Secret::new("0123456789abcdef");
        let brings = |value: &str| brings(request(header::AUTHORIZATION, value).headers(), &token);
        assert!(brings("Bearer 0123456789abcdef") && brings("bearer 0123456789abcdef"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdeX", "0123456789abcdef"]
        {
            assert!(!brings(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_page_of_somebody_else_does_not_name_this_machine() {
        for host in ["127.0.0.1:7979", "localhost", "LOCALHOST:1", "[::1]:7979", "127.9.9.9"] {
            assert!(names_this_machine(&request(header::HOST, host)), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:7979", "localhost.evil", "10.0.0.1", ""] {
            assert!(!names_this_machine(&request(header::HOST, host)), "{host}");
        }
    }
}
