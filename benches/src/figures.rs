//! Which plots are drawn of the results.

use crate::{
    plot::{Figure, Series},
    report::{Report, Row},
};

const BACKENDS: [&str; 3] = ["etcd", "zookeeper", "consul"];

/// The plots, by file name.
pub fn all(report: &Report) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    for backend in BACKENDS {
        let kinds = ["register", "attr", "deregister"].map(|what| (what.to_owned(), backend, what));
        let title = format!("From the call to a watcher's cache on {backend}, by endpoints present");
        figures.push((format!("propagation-{backend}"), by_size(report, "propagation", &title, &kinds)));
    }
    let kinds = BACKENDS.map(|backend| (backend.to_owned(), backend, "time"));
    figures
        .push(("first-list".into(), by_size(report, "first_list", "The first list, by its length", &kinds)));
    figures.push((
        "churn-cpu".into(),
        by_backend(report, "churn", "CPU, 21 paced", 1_000, "CPU of a watcher for 21 changes, 1,000 present"),
    ));
    figures.push((
        "memory".into(),
        by_backend(report, "memory", "an endpoint", 10_000, "Memory of a watched endpoint"),
    ));
    figures.push((
        "at-rest".into(),
        by_backend(
            report,
            "kept",
            "endpoints kept: CPU at rest",
            10_000,
            "CPU at rest, 10,000 endpoints kept",
        ),
    ));
    figures.push(("reads".into(), reads(report)));
    figures
        .retain(|(_, figure)| figure.series.iter().any(|series| series.values.iter().any(Option::is_some)));
    figures
}

fn find<'a>(report: &'a Report, workload: &'a str, backend: &str, what: &str, n: usize) -> Option<&'a Row> {
    report.of(workload).find(|row| row.backend == backend && row.what == what && row.n == n)
}

fn raw(row: &Row) -> Option<f64> {
    row.raw.map(|raw| raw.median)
}

/// Lines over the number of endpoints; `kinds` are name, registry and what.
fn by_size(report: &Report, workload: &str, title: &str, kinds: &[(String, &str, &str)]) -> Figure {
    let aimed_at =
        |row: &&Row| kinds.iter().any(|(_, backend, what)| row.backend == *backend && row.what == *what);
    let mut sizes: Vec<usize> = report.of(workload).filter(aimed_at).map(|row| row.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut series = Vec::new();
    for (colour, (name, backend, what)) in kinds.iter().enumerate() {
        let rows = || sizes.iter().map(|n| find(report, workload, backend, what, *n));
        let discox = rows().map(|row| row.map(|row| row.discox.median)).collect();
        series.push(Series { name: format!("{name}, discox"), values: discox, colour, is_raw: false });
        let values = rows().map(|row| row.and_then(raw)).collect();
        series.push(Series { name: format!("{name}, raw"), values, colour, is_raw: true });
    }
    let categories = sizes.iter().map(usize::to_string).collect();
    Figure { title: title.into(), unit: "ms".into(), categories, series, bars: false }
}

/// Bars for each registry.
fn by_backend(report: &Report, workload: &str, what: &str, n: usize, title: &str) -> Figure {
    let rows = || BACKENDS.iter().map(|backend| find(report, workload, backend, what, n));
    let unit = rows().flatten().next().map(|row| row.unit.clone()).unwrap_or_default();
    let discox = rows().map(|row| row.map(|row| row.discox.median)).collect();
    let raw = rows().map(|row| row.and_then(raw)).collect();
    let series = vec![
        Series { name: "discox".into(), values: discox, colour: 0, is_raw: false },
        Series { name: "raw client".into(), values: raw, colour: 5, is_raw: true },
    ];
    let categories = BACKENDS.map(str::to_owned).to_vec();
    Figure { title: title.into(), unit, categories, series, bars: true }
}

/// Bars for the ways to read.
fn reads(report: &Report) -> Figure {
    const WAYS: [(&str, &str); 4] = [
        ("load", "reader().load()"),
        ("load, pick", "reader().load() and pick in turn"),
        ("snapshot", "snapshot()"),
        ("attr", "attr()"),
    ];
    let series = [(1, "1 thread"), (2, "2 threads")].map(|(threads, name)| {
        let plural = if threads == 1 { "" } else { "s" };
        let value = |(_, way): &(&str, &str)| {
            let what = format!("{way}, {threads} thread{plural}");
            find(report, "reads", "", &what, 1_000).map(|row| row.discox.median)
        };
        Series {
            name: name.into(),
            values: WAYS.iter().map(value).collect(),
            colour: threads - 1,
            is_raw: false,
        }
    });
    Figure {
        title: "Reading a cache of 1,000 under updates".into(),
        unit: "ns".into(),
        categories: WAYS.map(|(name, _)| name.to_owned()).to_vec(),
        series: series.into(),
        bars: true,
    }
}
