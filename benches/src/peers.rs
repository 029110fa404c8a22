//! What others were measured at, and discox beside them.

use crate::report::{Report, number};

/// One line of the table: what it is, in which row discox's is found, and what the raw client, go-kit,
/// Curator and the Go original were measured at, on servers like ours.
struct Line {
    what: &'static str,
    unit: &'static str,
    row: (&'static str, &'static str, &'static str, usize),
    others: [&'static str; 4],
}

const fn line(
    what: &'static str,
    unit: &'static str,
    row: (&'static str, &'static str, &'static str, usize),
    others: [&'static str; 4],
) -> Line {
    Line { what, unit, row, others }
}

const LINES: [Line; 15] = [
    line(
        "register → seen, 1,000 present: etcd",
        "ms",
        ("propagation", "etcd", "register", 1_000),
        ["0.97", "4.2", "", "0.8"],
    ),
    line(
        "same, ZooKeeper",
        "ms",
        ("propagation", "zookeeper", "register", 1_000),
        ["1.0", "222", "1.5", "111"],
    ),
    line("same, Consul", "ms", ("propagation", "consul", "register", 1_000), ["21", "36", "", ""]),
    line("first list of 10,000: etcd", "ms", ("first_list", "etcd", "time", 10_000), ["42", "52", "", "38"]),
    line(
        "same, ZooKeeper",
        "ms",
        ("first_list", "zookeeper", "time", 10_000),
        ["42 (multi-read), 606 (pipelined)", "2,047", "3,062", "2,040"],
    ),
    line("same, Consul", "ms", ("first_list", "consul", "time", 10_000), ["275", "609", "", "490"]),
    line(
        "21 changes at 1,000: requests, ZooKeeper",
        "",
        ("churn", "zookeeper", "requests, 21 paced", 1_000),
        ["13", "21,017", "22", "21,000"],
    ),
    line("same: CPU, etcd", "ms", ("churn", "etcd", "CPU, 21 paced", 1_000), ["2", "61", "", "8"]),
    line(
        "same: CPU, ZooKeeper",
        "ms",
        ("churn", "zookeeper", "CPU, 21 paced", 1_000),
        ["9", "1,681", "80", "1,600"],
    ),
    line("same: CPU, Consul", "ms", ("churn", "consul", "CPU, 21 paced", 1_000), ["74", "423", "", "397"]),
    line(
        "memory per endpoint: etcd",
        "bytes",
        ("memory", "etcd", "an endpoint", 10_000),
        ["409", "1,536", "", "1,050"],
    ),
    line(
        "same, ZooKeeper",
        "bytes",
        ("memory", "zookeeper", "an endpoint", 10_000),
        ["451", "843", "7,235", "755"],
    ),
    line("same, Consul", "bytes", ("memory", "consul", "an endpoint", 10_000), ["618", "3,264", "", "3,448"]),
    line(
        "pick one of 1,000 under updates, 1 thread",
        "ns",
        ("reads", "", "reader().load() and pick in turn, 1 thread", 1_000),
        ["17", "27", "51,300", "crashes"],
    ),
    line(
        "same, 2 threads",
        "ns",
        ("reads", "", "reader().load() and pick in turn, 2 threads", 1_000),
        ["40", "49", "66,500", "crashes"],
    ),
];

/// The rows. The others were measured earlier, on a machine of the same kind; raw and discox in one run.
fn rows(report: &Report) -> Vec<[String; 9]> {
    let row = |line: &Line| {
        let (workload, backend, what, n) = line.row;
        let found = report.of(workload).find(|row| row.backend == backend && row.what == what && row.n == n);
        let [raw, go_kit, curator, go] = line.others.map(str::to_owned);
        let now = |value: Option<f64>| value.map(number).unwrap_or_default();
        let ratio = found.and_then(|row| row.ratio()).map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        [
            line.what.to_owned(),
            line.unit.to_owned(),
            raw,
            go_kit,
            curator,
            go,
            now(found.and_then(|row| row.raw).map(|raw| raw.median)),
            now(found.map(|row| row.discox.median)),
            ratio,
        ]
    };
    LINES.iter().map(row).collect()
}

/// The table as text.
pub fn table(report: &Report) -> String {
    const HEAD: [&str; 9] =
        ["what", "unit", "raw, earlier", "go-kit", "Curator", "Go original", "raw, now", "discox", "ratio"];
    crate::report::table(HEAD, &rows(report))
}
