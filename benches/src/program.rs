//! The program: what it measures, and what becomes of the results.

use crate::{
    bench::Bench,
    document,
    options::{Options, USAGE},
    report::Report,
    workloads,
};
use anyhow::Result;

/// Does what the command line says.
///
/// # Errors
/// A benchmark could not be run, or its results not be written.
#[tokio::main]
pub async fn run() -> Result<()> {
    let Some(options) = Options::parse(std::env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };
    let report = Report::read(&options.results)?;
    let mut bench = Bench { options, report };
    if bench.options.measure {
        bench.report.environment = document::environment();
        measure(&mut bench).await?;
    }
    println!("{}", document::tables(&bench.report));
    if let Some(publish) = &bench.options.publish {
        document::publish(&bench.report, publish)?;
    }
    Ok(())
}

async fn measure(bench: &mut Bench) -> Result<()> {
    let began = std::time::Instant::now();
    for (name, workload) in workloads::ALL {
        if bench.options.only.as_deref().is_none_or(|only| only == name) {
            eprintln!("{name}, after {:.0?}", began.elapsed());
            workload(bench).await?;
            // What is known is kept, should the next one fail.
            bench.report.write(&bench.options.results)?;
        }
    }
    let load = document::load_average();
    bench
        .report
        .note_environment(format!("measured in {:.0?}; load average {load} at the end", began.elapsed()));
    bench.report.write(&bench.options.results)?;
    eprintln!("all measured in {:.0?}; results in {}", began.elapsed(), bench.options.results.display());
    Ok(())
}
