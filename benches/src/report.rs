//! The results: collected, kept in a file, printed as tables.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::stats::Stat;

/// One measured thing, on both sides.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// The workload.
    pub workload: String,
    /// The registry; empty where there is none.
    pub backend: String,
    /// What of the workload.
    pub what: String,
    /// How many endpoints there were.
    pub n: usize,
    /// Of the values.
    pub unit: String,
    /// By the raw client, where there is something to compare with.
    pub raw: Option<Stat>,
    /// By discox.
    pub discox: Stat,
    /// What is to be reached.
    pub target: Option<Target>,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At most this many times what the raw client takes.
    Ratio(f64),
    /// At most this, in the row's unit.
    AtMost(f64),
}

impl Row {
    /// A row of which the rest is to be set.
    pub fn new(
        workload: &str,
        backend: impl ToString,
        what: &str,
        n: usize,
        unit: &str,
        discox: Stat,
    ) -> Self {
        Self {
            workload: workload.into(),
            backend: backend.to_string(),
            what: what.into(),
            n,
            unit: unit.into(),
            raw: None,
            discox,
            target: None,
        }
    }

    /// What the raw client took.
    #[must_use]
    pub fn against(mut self, raw: Stat) -> Self {
        self.raw = Some(raw);
        self
    }

    /// What is to be reached.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// discox's median to the raw client's.
    pub fn ratio(&self) -> Option<f64> {
        self.raw.map(|raw| self.discox.median / raw.median)
    }

    /// Whether it is reached, where there is something to be reached.
    pub fn is_met(&self) -> Option<bool> {
        match self.target? {
            Target::Ratio(most) => self.ratio().map(|ratio| ratio <= most),
            Target::AtMost(most) => Some(self.discox.median <= most),
        }
    }

    fn is_of(&self, other: &Self) -> bool {
        (&self.workload, &self.backend, &self.what, self.n)
            == (&other.workload, &other.backend, &other.what, other.n)
    }
}

/// All rows, of one run or of several.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// What was measured with: servers, machine.
    pub environment: Vec<String>,
    /// The rows, in the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// The report in this file; an empty one if there is no such file.
    ///
    /// # Errors
    /// The file is something else.
    pub fn read(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| path.display().to_string()),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Writes the report to this file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    /// Notes what is measured with, once.
    pub fn note_environment(&mut self, line: String) {
        if !self.environment.contains(&line) {
            self.environment.push(line);
        }
    }

    /// Takes in a row, in the place of an earlier one of the same thing.
    pub fn put(&mut self, row: Row) {
        match self.rows.iter_mut().find(|known| known.is_of(&row)) {
            Some(known) => *known = row,
            None => self.rows.push(row),
        }
    }

    /// The rows of a workload.
    pub fn of<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.workload == workload)
    }
}

/// The head of a table of rows.
pub const HEAD: [&str; 11] = [
    "backend",
    "what",
    "N",
    "unit",
    "raw p50",
    "raw p99",
    "discox p50",
    "discox p99",
    "ratio",
    "to reach",
    "",
];

/// A row as the cells of a table.
pub fn cells(row: &Row) -> [String; 11] {
    let raw = |value: fn(&Stat) -> f64| row.raw.as_ref().map_or_else(String::new, |raw| number(value(raw)));
    let target = match row.target {
        None => String::new(),
        Some(Target::Ratio(most)) => format!("≤ {} ×", number(most)),
        Some(Target::AtMost(most)) => format!("≤ {} {}", number(most), row.unit),
    };
    let met = match row.is_met() {
        None => "",
        Some(true) => "met",
        Some(false) => "NOT met",
    };
    [
        row.backend.clone(),
        row.what.clone(),
        row.n.to_string(),
        row.unit.clone(),
        raw(|raw| raw.median),
        raw(|raw| raw.p99),
        number(row.discox.median),
        number(row.discox.p99),
        row.ratio().filter(|ratio| ratio.is_finite()).map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        target,
        met.into(),
    ]
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if !v.is_finite() => return "-".into(),
        v if v == 0.0 || v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A table for a terminal, which is Markdown too.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.chain([head[i].chars().count(), 3]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        for (cell, width) in cells.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
    };
    line(head);
    let dashes = widths.map(|width| "-".repeat(width));
    line(std::array::from_fn(|i| dashes[i].as_str()));
    for row in rows {
        line(std::array::from_fn(|i| row[i].as_str()));
    }
    text
}
