//! `RELIABILITY.md`: its table of promises, and the figures that were measured.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    cell::{Cell, Topology},
    notes,
    table::{cells, faults},
};
use crate::server::Kind;

const BEGIN: &str = "<!-- faults: written by the suite, do not edit -->";
const END: &str = "<!-- faults: end -->";

/// Every run that was measured, beside the file.
const RECORD: &str = "docs/reliability/runs.jsonl";

/// How the file is brought up to date.
const HOW: &str = "bring RELIABILITY.md up to date: DISCOX_RELIABILITY=write cargo test -p discox --features cli --test faults";

/// Writes promises and figures between the markers.
pub(crate) fn write(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (head, _, tail) = parts(&text)?;
    let record = path.with_file_name(RECORD);
    let block = block(&Measured::of_all(notes::archive(&record)?));
    fs::write(path, format!("{head}{BEGIN}\n{block}{END}{tail}"))?;
    eprintln!("{} is up to date with {}", path.display(), record.display());
    Ok(())
}

/// Fails unless the file lists exactly the suite's promises and tests. Figures are not compared.
pub(crate) fn check(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("{}: {HOW}", path.display()))?;
    let (_, listed, _) = parts(&text)?;
    let (listed, wanted) = (promises(listed), promises(&block(&Measured::default())));
    for line in &wanted {
        ensure!(listed.contains(line), "RELIABILITY.md lacks {line:?}; {HOW}");
    }
    for line in &listed {
        ensure!(wanted.contains(line), "RELIABILITY.md has {line:?}, which the suite has not; {HOW}");
    }
    Ok(())
}

fn parts(text: &str) -> Result<(&str, &str, &str)> {
    let (head, rest) =
        text.split_once(BEGIN).with_context(|| format!("RELIABILITY.md has no line {BEGIN}"))?;
    let (block, tail) = rest.split_once(END).with_context(|| format!("RELIABILITY.md has no line {END}"))?;
    Ok((head, block, tail))
}

/// What must not differ: test and promise of each row, where it is played, and what does not apply.
fn promises(block: &str) -> Vec<String> {
    let rows = block.lines().filter(|line| line.starts_with("| `") || line.starts_with("- "));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        // A row of a table begins with test and promise, an item of a list has only one part before its figures.
        let (same, figures) = cells.split_at(if row.starts_with('|') { 2 } else { 1 });
        let figures = figures.iter().map(|cell| if cell.contains('–') { "–" } else { "" });
        same.iter().copied().chain(figures).collect::<Vec<_>>().join(" | ")
    })
    .collect()
}

/// The recorded runs, by cell.
#[derive(Default)]
struct Measured(BTreeMap<String, Vec<Value>>);

impl Measured {
    fn of_all(runs: Vec<Value>) -> Self {
        let mut by_cell: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for run in runs {
            by_cell.entry(run["test"].as_str().unwrap_or_default().to_owned()).or_default().push(run);
        }
        Self(by_cell)
    }

    fn of(&self, cell: &Cell) -> &[Value] {
        self.0.get(&cell.to_string()).map_or(&[], Vec::as_slice)
    }

    fn sum(&self, cells: &[Cell], count: &str) -> u64 {
        cells.iter().flat_map(|cell| self.of(cell)).filter_map(|run| run["counts"][count].as_u64()).sum()
    }
}

fn block(measured: &Measured) -> String {
    let (cells, left_out) = cells();
    let mut text = String::new();
    for topology in [Topology::Single, Topology::Cluster] {
        let title = match topology {
            Topology::Single => "Single servers",
            Topology::Cluster => "Clusters of three",
        };
        let _ = write!(
            text,
            "\n### {title}\n\n| test | promise | etcd | ZooKeeper | Consul |\n|---|---|---|---|---|\n"
        );
        for fault in faults().iter().filter(|fault| fault.on.contains(&topology)) {
            let figures = Kind::ALL.map(|kind| {
                let cell = cells.iter().find(|cell| {
                    cell.fault.name == fault.name && cell.topology == topology && cell.kind == kind
                });
                cell.map_or_else(|| "–".to_owned(), |cell| figures(measured.of(cell)))
            });
            let _ = writeln!(
                text,
                "| `{}::{topology}` | {} | {} |",
                fault.name,
                fault.promise,
                figures.join(" | ")
            );
        }
    }
    text += &totals(&cells, measured);
    text += "\n### Where a fault does not apply\n\n";
    for (cell, why) in left_out {
        let _ = writeln!(text, "- `{cell}`: {why}.");
    }
    text += "\n### Reported exceptions\n\n";
    for cell in &cells {
        if let Some(why) = cell.excuse() {
            let runs = measured.of(cell);
            let removals = measured.sum(std::slice::from_ref(cell), "excused_removals");
            let _ = writeln!(text, "- `{cell}`: {why}. | {removals} removals told in {} runs", runs.len());
        }
    }
    text + "\n"
}

/// For each figure of a cell: median and worst of its runs.
fn figures(runs: &[Value]) -> String {
    if runs.is_empty() {
        return "not measured".into();
    }
    let mut by_name: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for run in runs {
        for (name, figure) in run["figures"].as_object().into_iter().flatten() {
            by_name.entry(name).or_default().extend(figure["ms"].as_u64());
        }
    }
    let texts = by_name.into_iter().filter(|(_, all)| !all.is_empty()).map(|(name, mut all)| {
        all.sort_unstable();
        let (median, worst) = (all[all.len() / 2], all[all.len() - 1]);
        format!("{name} {} / {}", seconds(median), seconds(worst))
    });
    let failed = runs.iter().filter(|run| run["ok"] != true).count();
    let mut text = texts.collect::<Vec<_>>().join("; ");
    if text.is_empty() {
        text = counted(runs);
    }
    let _ = write!(text, " ({} runs", runs.len());
    if failed > 0 {
        let _ = write!(text, ", **{failed} failed**");
    }
    text + ")"
}

fn seconds(millis: u64) -> String {
    format!("{}.{:02} s", millis / 1000, millis % 1000 / 10)
}

/// What a cell without times has counted, as of its last run.
fn counted(runs: &[Value]) -> String {
    let counts = runs.last().and_then(|run| run["counts"].as_object());
    let told = counts.into_iter().flatten().filter(|(name, _)| {
        ["lives", "cycles", "outages", "memory_grown_kib"].contains(&name.as_str())
            || name.starts_with("percent")
    });
    told.map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect::<Vec<_>>().join(", ")
}

fn totals(cells: &[Cell], measured: &Measured) -> String {
    let of_each = || cells.iter().map(|cell| measured.of(cell).len());
    let (runs, fewest, most) = (of_each().sum::<usize>(), of_each().min(), of_each().max());
    let (fewest, most) = (fewest.unwrap_or_default(), most.unwrap_or_default());
    let failed = cells.iter().flat_map(|cell| measured.of(cell)).filter(|run| run["ok"] != true).count();
    format!(
        "\nOver {runs} runs of {} cells, {fewest} to {most} of each: {} live endpoints removed, {} wrong end states, {} wrong additions, {failed} \
         runs failed; {} removals of live endpoints are reported exceptions (below).\n",
        cells.len(),
        measured.sum(cells, "live_removals"),
        measured.sum(cells, "wrong_end_states"),
        measured.sum(cells, "wrong_adds"),
        measured.sum(cells, "excused_removals"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_make_no_difference() {
        let run = json!({ "ok": true, "figures": { "recovery": { "ms": 7 } }, "counts": { "excused_removals": 3 } });
        let (cells, _) = cells();
        let all = cells.iter().map(|cell| (cell.to_string(), vec![run.clone()])).collect();
        let measured = block(&Measured(all));
        assert!(measured.contains("recovery 0.00 s") && measured.contains("3 removals told"));
        assert_eq!(promises(&measured), promises(&block(&Measured::default())));
    }
}
