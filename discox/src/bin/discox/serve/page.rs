//! `GET /`: the page. It loads nothing, shows nothing by itself, and reads `/v1` as everybody else.

use axum::{
    http::{HeaderValue, header},
    response::Response,
};

use super::reply;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PAGE: &str = include_str!("page.html");

/// What the page may do: run its own script, known by its hash, and read from here. A test says the hashes.
const POLICY: &str = concat!(
    "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; ",
    "script-src 'sha256-+qpyl1pafTaOSLH/eiXrNduYBdDvjjdpacH+7U5IrHc='; style-src 'sha256-gMC3sCp+Aph9OhriRPGkmUGan9ZkRu64fWhN7/B/i5Y='"
);

pub(super) async fn page() -> Response {
    let mut answer = reply::with_type(HTML, PAGE);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    fn between<'a>(begin: &str, end: &str) -> &'a str {
        let (_, rest) = PAGE.split_once(begin).unwrap();
        rest.split_once(end).unwrap().0
    }

    #[test]
    fn the_policy_names_the_script_and_the_style_of_the_page() {
        for (kind, text) in [
            ("script", between("<script type=\"module\">", "</script>")),
            ("style", between("<style>", "</style>")),
        ] {
            let hash = BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
            assert!(POLICY.contains(&format!("{kind}-src 'sha256-{hash}'")), "{kind}: {hash}");
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        for word in ["http:", "https:", "src=", "import ", "@import", "url(", "<a ", "EventSource("] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
