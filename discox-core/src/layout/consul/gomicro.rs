//! go-micro: everything in tags, in hexadecimal digits of what zlib makes of JSON. It reads nothing else.

use std::fmt::Write;

use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};
use serde_json::{Map, Value};

use super::{Additions, ConsulService, Decoded, LayoutOptions, Reason, Record, endpoint, read};
use crate::{
    Result,
    layout::{
        attr::ORIGINAL,
        gomicro::{RULES, metadata},
        json::Style,
    },
};

/// The most that a tag may become.
const LONGEST: usize = 64 * 1024;
const LEVEL: u8 = 6;

/// go-micro's tags first: a tag before them that begins as they do would hide them.
pub(super) fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<Additions> {
    let (version, mut pairs) = metadata(record, attr, record.endpoint.as_str(), options)?;
    pairs.remove(ORIGINAL);
    let pairs =
        pairs.iter().map(|(name, text)| packed('t', &Style::Go.texts([(name.as_str(), text.as_str())])));
    let version = packed('v', &version);
    Ok(Additions { tags: pairs.chain([version]).collect(), ..Additions::default() })
}

pub(super) fn decode(service: &ConsulService, options: &LayoutOptions) -> Result<Decoded, Reason> {
    let endpoint = endpoint(service)?;
    let mut metadata = Map::new();
    let mut version = None;
    for tag in &service.tags {
        if let Some(json) = unpacked('t', tag) {
            metadata.extend(serde_json::from_str::<Map<String, Value>>(&json).unwrap_or_default());
        } else if let Some(text) = unpacked('v', tag) {
            version = version.or(Some(text));
        }
    }
    let mut read = read(service, Map::new());
    let said = crate::layout::gomicro::read(String::new(), version.as_deref(), metadata);
    (read.scheme, read.version, read.metadata) = (said.scheme, said.version, said.metadata);
    let wanted = options.scheme.as_ref().zip(read.scheme.as_ref());
    let mut decoded = Decoded::default();
    if wanted.is_none_or(|(wanted, scheme)| wanted.eq_ignore_ascii_case(scheme)) {
        decoded.add(read.found(endpoint, &RULES));
    }
    Ok(decoded)
}

fn packed(kind: char, text: &str) -> String {
    let mut tag = format!("{kind}-");
    for byte in compress_to_vec_zlib(text.as_bytes(), LEVEL) {
        // Writing to a String does not fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag
}

/// The text of a tag of this kind, in the present form (`t-…`) or the old one (`t=…`).
fn unpacked(kind: char, tag: &str) -> Option<String> {
    let rest = tag.strip_prefix(kind)?;
    if let Some(text) = rest.strip_prefix('=') {
        return Some(text.to_owned());
    }
    let digits = rest.strip_prefix('-')?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hex = digits.len() % 2 == 0 && digits.iter().all(u8::is_ascii_hexdigit);
    let packed: Option<Vec<u8>> = digits.chunks_exact(2).map(byte).collect();
    let text = decompress_to_vec_zlib_with_limit(&packed.filter(|_| is_hex)?, LONGEST).ok()?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::layout::tests::record;

    /// Tags that go-micro has written, for `{"env":"prod"}`, `{"weight":"10"}` and `v1.2.0`.
    const TAGS: [&str; 3] = [
        "t-789caa564acd2b53b2522a28ca4f51aa05040000ffff230704b9",
        "t-789caa562a4fcd4ccf2851b252323450aa05040000ffff28c104a4",
        "v-789c2a33d433d23300040000ffff05990166",
    ];

    fn of(tags: &[&str]) -> String {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        shown(decode(&service(Additions { tags, ..Default::default() }), &LayoutOptions::default()))
    }

    #[test]
    fn reads_tags_of_both_forms_wherever_they_are() {
        let expected = r#"10.1.2.3:8080 {"env":"prod","id":"orders-1","version":"v1.2.0","weight":10}"#;
        assert_eq!(of(&TAGS), expected);
        assert_eq!(of(&["env:x", "t", "e", "", TAGS[0], TAGS[1], TAGS[2]]), expected);
        assert_eq!(of(&[r#"t={"env":"prod"}"#, "v=v1.2.0", TAGS[1]]), expected);
    }

    #[test]
    fn tags_that_are_broken_say_nothing() {
        let bomb = packed('t', &format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST)));
        let plain = r#"10.1.2.3:8080 {"id":"orders-1"}"#;
        for tag in ["t-", "t-7", "t-zz", "t-789c", "t=5", "traefik.enable=true", "t-+1+1", &bomb] {
            assert_eq!(of(&[tag]), plain, "{tag}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let options =
            LayoutOptions { scheme: Some("grpc".into()), tags: vec!["edge".into()], ..Default::default() };
        let additions =
            super::super::encode(crate::Layout::GoMicro, &record(), r#"{"zone":"<é>"}"#, &options).unwrap();
        assert_eq!(additions.tags.last().map(String::as_str), Some("edge"));
        assert_eq!(
            shown(decode(&service(additions), &options)),
            r#"10.1.2.3:8080 {"id":"orders-1","protocol":"grpc","scheme":"grpc","zone":"<é>"}"#
        );
    }
}
