//! Kratos: URLs as tagged addresses, the version in a tag, metadata in Meta.

use super::{
    Additions, ConsulService, Decoded, LayoutOptions, Reason, Record, TaggedAddress, address, endpoint, read,
    values, written,
};
use crate::{
    Result,
    layout::kratos::{RULES, add_urls, endpoints, scheme},
};

const VERSION: &str = "version=";
/// Consul's own tagged addresses.
const OF_CONSUL: [&str; 4] = ["lan_ipv4", "lan_ipv6", "wan_ipv4", "wan_ipv6"];

pub(super) fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<Additions> {
    let mut written = written(record, attr, &RULES).in_service("Kratos")?.weight_and_zone_as_others(false);
    let version = written.version.take().unwrap_or_default();
    let urls = endpoints(record, &scheme(options)?, options)?;
    let tagged = urls.into_iter().filter_map(|url| {
        let (scheme, endpoint) = address::url(&url)?;
        let port = endpoint.rsplit_once(':')?.1.parse().ok()?;
        Some((scheme, TaggedAddress { address: url, port }))
    });
    Ok(Additions {
        tags: vec![format!("{VERSION}{version}")],
        meta: written.texts(),
        tagged_addresses: tagged.collect(),
        weight: None,
    })
}

pub(super) fn decode(service: &ConsulService, options: &LayoutOptions) -> Result<Decoded, Reason> {
    let mut read = read(service, values(&service.meta));
    let version = service.tags.iter().find_map(|tag| tag.strip_prefix(VERSION));
    read.version = version.map(str::to_owned);
    let tagged = service.tagged_addresses.iter().filter(|(name, _)| !OF_CONSUL.contains(&name.as_str()));
    let urls: Vec<_> = tagged.map(|(_, tagged)| tagged.address.as_str()).collect();
    let mut decoded = Decoded::default();
    if urls.is_empty() {
        decoded.add(read.found(endpoint(service)?, &RULES));
    } else {
        add_urls(&mut decoded, urls.into_iter(), &read, options);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::layout::tests::record;

    #[test]
    fn writes_tags_and_urls() {
        let options = LayoutOptions {
            scheme: Some("grpc".into()),
            extra_endpoints: vec!["http://10.1.2.3:80".into()],
            ..Default::default()
        };
        let additions = encode(&record(), r#"{"version":"v1","weight":10}"#, &options).unwrap();
        assert_eq!(additions.tags, ["version=v1"]);
        let tagged = |address: &str, port| TaggedAddress { address: address.into(), port };
        assert_eq!(additions.tagged_addresses["grpc"], tagged("grpc://10.1.2.3:8080", 8080));
        assert_eq!(additions.tagged_addresses["http"], tagged("http://10.1.2.3:80", 80));
        assert_eq!(
            shown(decode(&service(additions), &LayoutOptions::default())),
            r#"10.1.2.3:8080 {"id":"orders-1","scheme":"grpc","version":"v1","weight":10}, 10.1.2.3:80 {"id":"orders-1","scheme":"http","version":"v1","weight":10}"#
        );
    }

    #[test]
    fn consuls_own_addresses_are_no_urls() {
        let mut plain = service(Additions { tags: vec!["x".into()], ..Default::default() });
        plain.tagged_addresses.insert("lan_ipv4".into(), TaggedAddress::default());
        assert_eq!(shown(decode(&plain, &LayoutOptions::default())), r#"10.1.2.3:8080 {"id":"orders-1"}"#);
    }
}
