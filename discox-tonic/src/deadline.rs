//! The deadline of a call, as its header says it.

use std::time::Duration;

use http::HeaderMap;

/// The longest that is counted: further than any call goes.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests"). None where it is missing or none.
pub(crate) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let limit = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(limit.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_the_rest_is_no_deadline() {
        for (text, limit) in [
            ("5S", Some(Duration::from_secs(5))),
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(LONGEST)),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("5s", None),
        ] {
            let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]);
            assert_eq!(of(&headers), limit, "{text}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
