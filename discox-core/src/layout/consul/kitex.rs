//! Kitex and Hertz: tags `key:value`, the weight as Consul's.

use serde_json::{Map, Value};

use super::{Additions, ConsulService, Decoded, LayoutOptions, Reason, Record, endpoint, read};
use crate::{
    Result,
    layout::kitex::{RULES, tags},
};

pub(super) fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<Additions> {
    let (weight, mut pairs) = tags(record, attr, None, options)?;
    pairs.remove(crate::layout::attr::ORIGINAL);
    let tags = pairs.iter().filter(|(key, _)| !key.contains(':') && !key.is_empty());
    let tags = tags.map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(Additions { tags, weight: Some(weight), ..Additions::default() })
}

/// Hertz takes a tag without a value, Kitex does not.
pub(super) fn decode(service: &ConsulService, is_hertz: bool) -> Result<Decoded, Reason> {
    let endpoint = endpoint(service)?;
    let pairs = service.tags.iter().filter_map(|tag| match tag.split_once(':') {
        Some((key, value)) => Some((key.to_owned(), Value::from(value))),
        None => is_hertz.then(|| (tag.clone(), "".into())),
    });
    let mut read = read(service, pairs.collect::<Map<_, _>>());
    let prefix = format!("{}:", service.name);
    read.id = Some(service.id.strip_prefix(&prefix).unwrap_or(&service.id).to_owned());
    read.scheme = Some("tcp".to_owned());
    read.weight = service.weight.map(Into::into);
    let mut decoded = Decoded::default();
    decoded.add(read.found(endpoint, &RULES));
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::layout::tests::record;

    #[test]
    fn writes_tags_and_weight() {
        let options = LayoutOptions::default();
        let additions =
            encode(&record(), r#"{"weight":7,"zone":"a","a:b":"x","url":"http://h:1"}"#, &options).unwrap();
        assert_eq!(
            (additions.tags, additions.weight),
            (vec!["url:http://h:1".into(), "zone:a".into()], Some(7))
        );
        assert_eq!(encode(&record(), "", &options).unwrap().weight, Some(10));
    }

    #[test]
    fn reads_pairs_alone() {
        let mut kitex = service(Additions {
            tags: ["env:prod", "plain", "env:last"].map(str::to_owned).into(),
            weight: Some(10),
            ..Default::default()
        });
        kitex.id = "orders:10.1.2.3:8080".into();
        assert_eq!(
            shown(decode(&kitex, false)),
            r#"10.1.2.3:8080 {"env":"last","scheme":"tcp","weight":10}"#
        );
        assert_eq!(
            shown(decode(&kitex, true)),
            r#"10.1.2.3:8080 {"env":"last","plain":"","scheme":"tcp","weight":10}"#
        );
    }
}
