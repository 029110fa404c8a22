//! A record's Meta as it is read: its pairs in one text, since a list has ten of them for each instance.

use std::{cmp::Ordering, collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};

/// Pairs of texts, in the order of their keys. Of several pairs with one key, the last one counts.
#[derive(Clone, Default)]
pub(crate) struct Meta {
    text: String,
    pairs: Vec<Pair>,
}

/// Where in the text a key begins, where its value begins, and where that ends.
#[derive(Clone, Copy)]
struct Pair {
    key: u32,
    value: u32,
    end: u32,
}

impl Meta {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.binary_search_by(|pair| self.key(*pair).cmp(key)).ok()?;
        self.pairs.get(found).map(|pair| self.value(*pair))
    }

    /// All pairs, in the order of their keys.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|pair| (self.key(*pair), self.value(*pair)))
    }

    fn key(&self, pair: Pair) -> &str {
        self.part(pair.key..pair.value)
    }

    fn value(&self, pair: Pair) -> &str {
        self.part(pair.value..pair.end)
    }

    fn part(&self, part: Range<u32>) -> &str {
        self.text.get(part.start as usize..part.end as usize).unwrap_or_default()
    }

    /// Consul writes them in order, and each once.
    fn sort(&mut self) {
        let Self { text, pairs } = self;
        let key = |pair: &Pair| text.get(pair.key as usize..pair.value as usize).unwrap_or_default();
        if pairs.is_sorted_by(|one, next| key(one).cmp(key(next)) == Ordering::Less) {
            return;
        }
        pairs.sort_by(|one, other| key(one).cmp(key(other)).then(other.key.cmp(&one.key)));
        pairs.dedup_by(|later, kept| key(later) == key(kept));
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq<BTreeMap<String, String>> for Meta {
    fn eq(&self, other: &BTreeMap<String, String>) -> bool {
        self.iter().eq(other.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Meta {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut meta = Self::default();
        for (key, value) in pairs {
            let begins = meta.end();
            meta.text.push_str(key.as_ref());
            let value_begins = meta.end();
            meta.text.push_str(value.as_ref());
            meta.pairs.push(Pair { key: begins, value: value_begins, end: meta.end() });
        }
        meta.sort();
        meta
    }
}

impl Meta {
    /// No answer is as long as that: it would have been refused.
    fn end(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Meta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
        let mut meta = Meta::default();
        loop {
            let key = meta.end();
            if map.next_key_seed(Append(&mut meta.text))?.is_none() {
                break;
            }
            let value = meta.end();
            map.next_value_seed(Append(&mut meta.text))?;
            meta.pairs.push(Pair { key, value, end: meta.end() });
        }
        meta.sort();
        Ok(meta)
    }
}

/// Adds a text to another one.
struct Append<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_a_map_of_texts_is() {
        for json in [
            r#"{}"#,
            r#"{"a":"1","b":"2"}"#,
            r#"{"b":"2","a":"1","":"","a":"3","b":"\u20ac\n"}"#,
            r#"{"aa":"","a":"a"}"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"["a"]"#,
        ] {
            let map = serde_json::from_str::<BTreeMap<String, String>>(json).ok();
            let meta = serde_json::from_str::<Meta>(json).ok();
            assert_eq!(meta.is_some(), map.is_some(), "{json}");
            if let (Some(map), Some(meta)) = (map, meta) {
                assert!(meta == map, "{meta:?}");
                assert!(map.iter().all(|(key, value)| meta.get(key) == Some(value)), "{meta:?}");
                assert_eq!(meta.get("c"), None);
                assert_eq!(serde_json::to_string(&meta).unwrap(), serde_json::to_string(&map).unwrap());
            }
        }
    }
}
