//! `discox watch --why`: prints the history of the discovery as it happens, between the lines that `watch` prints anyway.
//!
//! In JSON `event` is `why`, and `of` is what happened: `added`, `removed`, `held` and so on.

use std::io;

use discox::{History, HistoryEvent};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::{Format, print_either};

/// Prints until that fails, and returns why. Waits for ever where there is no history. Cancel-safe: what was taken from
/// the history has been printed.
pub(crate) async fn print(history: &History, output: Format) -> io::Error {
    let mut printed = 0;
    loop {
        for event in history.wait_after(printed).await {
            printed = event.number;
            let at = humantime::format_rfc3339_millis(event.at);
            let text = format_args!("{at} why {event}");
            if let Err(error) = print_either(&Why::of(&event), &text, output) {
                return error;
            }
        }
    }
}

/// An event of a history among the lines of `watch`.
#[derive(Serialize)]
struct Why {
    event: &'static str,
    of: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Why {
    fn of(event: &HistoryEvent) -> Self {
        // A history event is an object of texts and numbers, which are JSON.
        let mut rest = match serde_json::to_value(event) {
            Ok(Value::Object(rest)) => rest,
            _ => Map::new(),
        };
        let of = rest.remove("event").unwrap_or_default();
        rest.remove("age_seconds");
        Self { event: "why", of, rest }
    }
}
