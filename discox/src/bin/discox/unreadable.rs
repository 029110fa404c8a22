//! What is wrong with a file of settings, told without anything that it holds but keys: a secret may stand in
//! the wrong place.

use toml::de::{DeTable, DeValue, Error};

/// Where it is wrong, at which key, and what is expected there.
pub(crate) fn why(text: &str, error: &Error) -> String {
    let place = error.span().map(|span| span.start);
    let what = match DeTable::parse(text) {
        // What a parser expected is said without what it found.
        Err(_) => error.message().to_owned(),
        Ok(table) => {
            let key = place.and_then(|place| key_at(table.get_ref(), place)).unwrap_or_default();
            unfit(&key.join("."), error.message())
        }
    };
    match place.and_then(|place| text.get(..place)) {
        Some(before) => format!("{}: {what}", position(before)),
        None => what,
    }
}

/// The line and the column, counted from 1, behind this text.
fn position(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}")
}

/// A key or its value is none of ours. The message repeats the value, and then says what is expected.
fn unfit(key: &str, message: &str) -> String {
    let what = if message.starts_with("unknown field") { "is unknown" } else { "does not fit" };
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("`{key}` {what}, expected {expected}"),
        None => format!("`{key}` {what}"),
    }
}

/// The key at this place of the text, or whose value is there, behind those of its tables.
fn key_at<'a>(table: &'a DeTable<'_>, place: usize) -> Option<Vec<&'a str>> {
    table.iter().find_map(|(key, value)| {
        let below = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, place),
            _ => None,
        };
        let here = || key.span().contains(&place) || value.span().contains(&place);
        let mut keys = below.or_else(|| here().then(Vec::new))?;
        keys.insert(0, key.get_ref().as_ref());
        Some(keys)
    })
}
