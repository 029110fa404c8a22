//! From an attr to what a record of another system can hold, and back.
//!
//! A record holds texts, or JSON where a layout is *typed*. Texts stay as they are, numbers and truths become text, null
//! is left out, what is nested becomes JSON text. Where reading that back would not give the same JSON, the attr goes
//! along as it is in one more pair, [`ORIGINAL`], and counts as long as the rest of the record agrees with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Found, Reason,
    json::{self, Style},
};
use crate::{Error, Result};

/// The pair with the attr itself.
pub(super) const ORIGINAL: &str = "discox-attr";

/// What a layout does with attrs.
pub(super) struct Rules {
    /// Its records hold JSON, not texts.
    pub(super) typed: bool,
    /// Names in its metadata that mean something else there: never written for an attr,
    pub(super) reserved: &'static [&'static str],
    /// and never shown as one.
    pub(super) hidden: &'static [&'static str],
    /// Members that reading adds to an attr that has none: as `id` and `scheme`, they are no difference.
    pub(super) added: &'static [&'static str],
}

/// What a record says of itself, whatever the attr is.
pub(super) struct Own<'a> {
    pub(super) endpoint: &'a str,
    pub(super) id: Option<&'a str>,
    pub(super) scheme: Option<&'a str>,
}

impl Own<'_> {
    /// Adds what is read of the record, where the attr says the same.
    fn is_read(&self, attr: &Map<String, Value>, flat: &mut BTreeMap<String, Value>) {
        let id = self.id.filter(|id| *id != self.endpoint);
        for (name, text) in [("id", id), ("scheme", self.scheme)] {
            if let Some(value) = text.map(Value::from).filter(|value| attr.get(name) == Some(value)) {
                flat.insert(name.to_owned(), value);
            }
        }
    }
}

/// An attr, as a record is to say it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) weight: Option<u32>,
    pub(super) version: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) enabled: bool,
    /// All else, and [`ORIGINAL`] where it is needed.
    pub(super) others: BTreeMap<String, Value>,
}

impl Written {
    /// What an attr says.
    pub(super) fn of(attr: &str, rules: &Rules, own: &Own<'_>) -> Self {
        let object = object(attr);
        let mut flat =
            object.as_ref().map(|object| flat(object, rules.typed, rules.reserved)).unwrap_or_default();
        let raw = |name: &str| object.as_ref().and_then(|object| object.get(name)).filter(|_| rules.typed);
        let text = |name: &str| flat.get(name).and_then(json::text);
        let is_known = |name: &str| matches!(name, "weight" | "version" | "zone" | "enabled");
        let others = flat.iter().filter(|(name, _)| !is_known(name));
        let others = others.map(|(name, value)| (name.clone(), raw(name).unwrap_or(value).clone()));
        let mut written = Self {
            weight: flat.get("weight").and_then(weight),
            version: text("version"),
            zone: text("zone"),
            enabled: flat.get("enabled") != Some(&Value::Bool(false)),
            others: others.collect(),
        };
        if let Some(object) = &object {
            own.is_read(object, &mut flat);
        }
        if object.is_none_or(|object| !flat.iter().eq(sorted(&object))) {
            written.others.insert(ORIGINAL.to_owned(), attr.into());
        }
        written
    }

    /// With the weight and the zone among the others, as most systems have them.
    pub(super) fn weight_and_zone_as_others(mut self, typed: bool) -> Self {
        let weight =
            self.weight.take().map(|weight| if typed { weight.into() } else { weight.to_string().into() });
        let zone = self.zone.take().map(Value::from);
        for (name, value) in [("weight", weight), ("zone", zone)] {
            self.others.extend(value.map(|value| (name.to_owned(), value)));
        }
        self
    }

    /// With the version among the others, too.
    pub(super) fn all_as_others(self, typed: bool) -> Self {
        let mut written = self.weight_and_zone_as_others(typed);
        let version = written.version.take();
        written.others.extend(version.map(|version| ("version".to_owned(), version.into())));
        written
    }

    /// Rejects an instance that is out of service, where a record cannot say so.
    pub(super) fn in_service(self, layout: &str) -> Result<Self> {
        if self.enabled {
            return Ok(self);
        }
        let reason = format!("a record of {layout} cannot say so, stop the registration instead");
        Err(Error::config("attr", "\"enabled\":false", reason))
    }

    /// Rejects an attr of which nothing can be carried.
    pub(super) fn nothing(&self, attr: &str, layout: &str) -> Result<()> {
        let is_nothing = (&self.weight, &self.version, &self.zone) == (&None, &None, &None);
        if is_nothing && self.others.is_empty() {
            return Ok(());
        }
        let reason = format!("a record of {layout} cannot carry it; set `lossy` to leave it out");
        Err(Error::config("attr", attr, reason))
    }

    /// The others as texts.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        self.others.iter().map(|(name, value)| (name.clone(), json::any_text(value))).collect()
    }
}

/// What a record says of one endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    pub(super) id: Option<String>,
    pub(super) scheme: Option<String>,
    pub(super) weight: Option<Value>,
    pub(super) version: Option<String>,
    pub(super) zone: Option<String>,
    /// It is out of service.
    pub(super) disabled: bool,
    /// All else; of the above what is not set there.
    pub(super) metadata: Map<String, Value>,
    /// The attr itself, where that is known for certain.
    pub(super) original: Option<String>,
}

impl Read {
    /// The endpoint with its attr, and what had to be left out.
    pub(super) fn found(mut self, endpoint: String, rules: &Rules) -> (Found, Option<Reason>) {
        let enabled = !self.disabled;
        let certain = self.original.take();
        let carried = self.metadata.remove(ORIGINAL).as_ref().and_then(json::text);
        let (flat, complaint) = self.flat(&endpoint, rules);
        let attr = match certain {
            Some(certain) => with_added(&certain, &flat, rules, &["id", "scheme", "enabled"]).0,
            None => {
                let original = carried.map(|carried| with_added(&carried, &flat, rules, &["id", "scheme"]));
                let original = original.and_then(|(attr, agrees)| agrees.then_some(attr));
                original.unwrap_or_else(|| {
                    Style::Plain.object(flat.iter().map(|(name, value)| (name.as_str(), value)))
                })
            }
        };
        (Found { endpoint: endpoint.into(), attr: attr.into(), enabled }, complaint)
    }

    fn flat(self, endpoint: &str, rules: &Rules) -> (BTreeMap<String, Value>, Option<Reason>) {
        let scheme = self.scheme.or_else(|| self.metadata.get("scheme").and_then(json::text));
        let mut flat = flat(&self.metadata, rules.typed, rules.hidden);
        let texts = [("id", self.id), ("scheme", scheme), ("version", self.version), ("zone", self.zone)];
        flat.extend(texts.into_iter().filter_map(|(name, text)| {
            Some((name.to_owned(), Value::from(text.filter(|text| !text.is_empty())?)))
        }));
        // In most layouts an instance is called as its endpoint unless it is told otherwise.
        if flat.get("id").is_some_and(|id| id == endpoint) {
            flat.remove("id");
        }
        // Only the record itself can say so; metadata of this name is metadata.
        flat.remove("enabled");
        let enabled = match self.metadata.get("enabled").filter(|said| !said.is_null()) {
            _ if self.disabled => Some(false.into()),
            said => said.map(|said| json::any_text(said).into()),
        };
        flat.extend(enabled.map(|enabled: Value| ("enabled".to_owned(), enabled)));
        let weight_of_record = self.weight.filter(|weight| !weight.is_null());
        let said =
            weight_of_record.as_ref().or(self.metadata.get("weight").filter(|weight| !weight.is_null()));
        let mut complaint = None;
        match said.map(|said| (weight(said), said)) {
            Some((Some(weight), _)) => drop(flat.insert("weight".into(), weight.into())),
            Some((None, said)) => {
                let said = Style::Plain.value(said).chars().take(40).collect::<String>();
                complaint = Some(Reason::new(format!("its weight is no whole number, 0 or more: {said}")));
            }
            None => {}
        }
        (flat, complaint)
    }
}

/// A weight: a whole number, 0 or more, as such or as text.
pub(super) fn weight(value: &Value) -> Option<u32> {
    json::number(value).and_then(|number| u32::try_from(number).ok())
}

/// The object that an attr is; the empty attr is the empty object.
fn object(attr: &str) -> Option<Map<String, Value>> {
    if attr.is_empty() { Some(Map::new()) } else { serde_json::from_str(attr).ok() }
}

/// What reading gives of what an object's members are written as.
fn flat(object: &Map<String, Value>, typed: bool, without: &[&str]) -> BTreeMap<String, Value> {
    let carried = object.iter().filter(|(name, value)| {
        let known_otherwise = matches!(name.as_str(), "id" | "scheme") || *name == ORIGINAL;
        !value.is_null() && !known_otherwise && !without.contains(&name.as_str())
    });
    let carried = carried.filter_map(|(name, value)| {
        let value = match (name.as_str(), value) {
            ("weight", value) => weight(value)?.into(),
            ("enabled", Value::Bool(false)) => false.into(),
            ("enabled", _) => return None,
            // Most records have an empty one where there is none.
            ("version" | "zone", Value::String(text)) if text.is_empty() => return None,
            ("version" | "zone", value) => json::any_text(value).into(),
            (_, Value::Number(_) | Value::Bool(_)) if typed => value.clone(),
            (_, value) => json::any_text(value).into(),
        };
        Some((name.clone(), value))
    });
    carried.collect()
}

/// An attr that is known, with what reading adds, these names too; and whether the rest of what was read agrees with it.
fn with_added(attr: &str, read: &BTreeMap<String, Value>, rules: &Rules, names: &[&str]) -> (String, bool) {
    let object = object(attr);
    let mut expected =
        object.as_ref().map(|object| flat(object, rules.typed, rules.reserved)).unwrap_or_default();
    let mut added = Map::new();
    for name in names.iter().chain(rules.added) {
        let Some(value) = read.get(*name).filter(|_| !expected.contains_key(*name)) else { continue };
        expected.insert((*name).to_owned(), value.clone());
        if object.as_ref().is_some_and(|object| !object.contains_key(*name)) {
            added.insert((*name).to_owned(), value.clone());
        }
    }
    let agrees = expected == *read;
    match object {
        Some(mut object) if !added.is_empty() => {
            object.extend(added);
            (Style::Plain.value(&object.into()), agrees)
        }
        _ => (attr.to_owned(), agrees),
    }
}

fn sorted(object: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    object.iter().collect::<BTreeMap<_, _>>().into_iter()
}
