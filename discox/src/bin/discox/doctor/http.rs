//! One question in HTTP/1.1, over whatever stream, for what members tell of themselves without a log-in.

use std::time::SystemTime;

/// What a member answered.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// When, by the member's clock.
    pub(crate) date: Option<SystemTime>,
    pub(crate) body: String,
}

/// The request for a path.
pub(crate) fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// Reads an answer, as far as it came; none where it is not HTTP.
pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let date =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("date"));
    let date = date.and_then(|(_, date)| httpdate::parse_http_date(date.trim()).ok());
    Some(Answer { status, date, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_other_things_are_not() {
        let answer =
            parse(b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:07 GMT\r\n\r\n{\"x\":1}").unwrap();
        let date = answer.date.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!((answer.status, date, answer.body.as_str()), (200, 7, "{\"x\":1}"));
        assert!(parse(b"\x15\x03\x01\x00\x02").is_none());
        assert!(parse(b"").is_none());
    }
}
