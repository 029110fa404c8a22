//! Spring Cloud Consul: metadata, zone, weight and `secure` in Meta. What any service of Consul says, too.

use super::{
    Additions, ConsulService, Decoded, LayoutOptions, Reason, Record, Rules, endpoint, read, values, written,
};
use crate::Result;

const SECURE: &str = "secure";
const RULES: Rules = Rules { typed: false, reserved: &[SECURE], hidden: &[], added: &[SECURE] };

pub(super) fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<Additions> {
    let written = written(record, attr, &RULES).in_service("Spring")?;
    let weight = written.weight;
    let mut meta = written.all_as_others(false).texts();
    let is_secure = options.scheme.as_deref() == Some("https");
    meta.insert(SECURE.to_owned(), is_secure.to_string());
    Ok(Additions { meta, weight: weight.filter(|weight| *weight > 0), ..Additions::default() })
}

pub(super) fn decode(service: &ConsulService, options: &LayoutOptions) -> Result<Decoded, Reason> {
    let endpoint = endpoint(service)?;
    let is_secure = service.meta.get(SECURE).map(|text| text.eq_ignore_ascii_case("true"));
    let scheme = if is_secure == Some(true) { "https" } else { "http" };
    // A service that is not of Spring does not say what it speaks.
    let is_wanted = match options.scheme.as_deref() {
        Some(wanted) if is_secure.is_some() => wanted.eq_ignore_ascii_case(scheme),
        _ => true,
    };
    if !is_wanted {
        return Ok(Decoded::default());
    }
    let mut read = read(service, values(&service.meta));
    read.scheme = Some(scheme.to_owned());
    if !read.metadata.contains_key("weight") {
        read.weight = service.weight.filter(|weight| *weight != 1).map(Into::into);
    }
    let mut decoded = Decoded::default();
    decoded.add(read.found(endpoint, &RULES));
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::tests::*, *};
    use crate::layout::tests::record;

    #[test]
    fn writes_meta_and_weight() {
        let additions =
            encode(&record(), r#"{"weight":10,"on":true,"secure":"x"}"#, &LayoutOptions::default()).unwrap();
        let meta = [("on", "true"), ("secure", "false"), ("weight", "10")];
        assert_eq!(additions.meta, meta.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        assert_eq!(additions.weight, Some(10));
    }

    #[test]
    fn reads_spring_and_any_other() {
        let options = LayoutOptions::default();
        let mut any = service(Additions { weight: Some(5), ..Default::default() });
        assert_eq!(
            shown(decode(&any, &options)),
            r#"10.1.2.3:8080 {"id":"orders-1","scheme":"http","weight":5}"#
        );
        any.meta =
            BTreeMap::from([("secure".to_owned(), "true".to_owned()), ("weight".to_owned(), "3".to_owned())]);
        assert_eq!(
            shown(decode(&any, &options)),
            r#"10.1.2.3:8080 {"id":"orders-1","scheme":"https","secure":"true","weight":3}"#
        );
        any.in_maintenance = true;
        assert!(!decode(&any, &options).unwrap().found[0].enabled);
        let plain = LayoutOptions { scheme: Some("http".into()), ..options };
        assert_eq!(shown(decode(&any, &plain)), "");
    }
}
