//! Whether every benchmark runs: all workloads, small and short, on real servers. What they measure that way
//! says nothing.

use std::process::Command;

use anyhow::{Result, ensure};

#[test]
fn every_benchmark_runs() -> Result<()> {
    let results = std::env::temp_dir().join(format!("discox-bench-{}.json", std::process::id()));
    let status = Command::new(env!("CARGO_BIN_EXE_discox-bench"))
        .args(["--quick", "--results"])
        .arg(&results)
        .status()?;
    std::fs::remove_file(&results)?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
