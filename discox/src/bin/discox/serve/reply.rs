//! Answers, and what all of them say.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::json;

pub(super) const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// JSON.
pub(super) fn json(body: Bytes) -> Response {
    with_type(JSON, body)
}

/// Text of this type.
pub(super) fn with_type(kind: HeaderValue, body: impl Into<Body>) -> Response {
    let mut answer = Response::new(body.into());
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// `{"error": REASON}`.
pub(super) fn error(status: StatusCode, reason: &str) -> Response {
    let mut answer = json(json!({ "error": reason }).to_string().into());
    *answer.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        error(self.0, &self.1)
    }
}

/// Says of every answer that it is not to be kept, nor taken for something else.
pub(super) fn harmless(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}
