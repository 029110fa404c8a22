//! The results for people: tables, plots, and their section of `PERFORMANCE.md`.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    figures,
    options::Publish,
    peers,
    report::{HEAD, Report, Row, cells, table},
};

const BEGIN: &str = "<!-- discox-bench writes what follows -->";
const END: &str = "<!-- discox-bench wrote what precedes -->";

/// What stands above the rows of a workload.
const TITLES: [(&str, &str); 11] = [
    ("propagation", "From the call to a watcher's cache"),
    ("propagation growth", "How that grows with the endpoints present"),
    ("propagation alone", "The same on the registry inside the process: what discox does besides"),
    ("propagation guarded", "The same on ZooKeeper with a guard, against discox without one (as *raw*)"),
    (
        "fences",
        "What a fence costs: the raw client, plain and (as *discox*) making sure that the record is still ours",
    ),
    ("first_list", "The first list"),
    ("churn", "What a watcher works and asks while others come, change and go"),
    ("memory", "Memory"),
    ("watched", "Services that are watched over one connection"),
    ("kept", "Endpoints that are kept over one connection"),
    ("reads", "Reading and updating the cache"),
];

/// The machine.
pub fn environment() -> Vec<String> {
    let read = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = read("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".into());
    vec![format!(
        "{cores} cores ({model}), {}, servers on the same machine; load average {} when it began",
        std::env::consts::OS,
        load_average()
    )]
}

/// How many processes wanted a core, over the last minute.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

/// All results as tables.
pub fn tables(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.environment {
        text.push_str(&format!("- {line}\n"));
    }
    text.push_str(&format!("\n### Next to others\n\n{}", peers::table(report)));
    for (workload, title) in TITLES {
        let rows: Vec<_> = report.of(workload).map(cells).collect();
        if !rows.is_empty() {
            text.push_str(&format!("\n### {title}\n\n{}", table(HEAD, &rows)));
        }
    }
    let missed: Vec<&Row> = report.rows.iter().filter(|row| row.is_met() == Some(false)).collect();
    let aimed_at = report.rows.iter().filter(|row| row.is_met().is_some()).count();
    text.push_str(&format!("\n{} of {aimed_at} numbers met.\n", aimed_at - missed.len()));
    text
}

/// Draws the plots and writes the section of the document.
///
/// # Errors
/// A file cannot be written, or the document has no such section.
pub fn publish(report: &Report, publish: &Publish) -> Result<()> {
    fs::create_dir_all(&publish.plots)?;
    let mut images = String::from("\n### Plots\n\nLogarithmic; broken or pale: the raw client.\n\n");
    for (name, figure) in figures::all(report) {
        fs::write(publish.plots.join(format!("{name}.svg")), figure.svg())?;
        images.push_str(&format!("![{}](docs/performance/{name}.svg)\n", figure.title));
    }
    let document =
        fs::read_to_string(&publish.document).with_context(|| publish.document.display().to_string())?;
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    let section = format!("{before}{BEGIN}\n\n{}{images}\n{END}{after}", tables(report));
    fs::write(&publish.document, section)?;
    Ok(())
}
