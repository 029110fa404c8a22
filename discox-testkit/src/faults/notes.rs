//! What a run of a cell measured and counted, and the file where it is kept.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// A figure that is missed by this factor fails its test: figures are recorded, not asserted tightly.
pub(crate) const TOO_MUCH: u32 = 3;

/// What one run measured and counted.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    figures: Map<String, Value>,
    counts: Map<String, Value>,
}

impl Notes {
    /// Notes how long something took, and what it may take. The first of several of one name that is the worst
    /// counts.
    ///
    /// # Errors
    /// It took three times as long.
    pub(crate) fn took(&self, figure: &str, time: Duration, target: Duration) -> Result<()> {
        let (millis, target_millis) = (in_millis(time), in_millis(target));
        self.with(|inner| {
            let known = inner.figures.get(figure).and_then(|known| known["ms"].as_u64());
            if known.is_none_or(|known| known < millis) {
                inner.figures.insert(figure.into(), json!({ "ms": millis, "target_ms": target_millis }));
            }
        });
        if time > target * TOO_MUCH {
            bail!("{figure} took {time:?}, more than {TOO_MUCH} times the {target:?} that are promised");
        }
        Ok(())
    }

    /// Notes a number that is only told.
    pub(crate) fn count(&self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        self.with(|inner| inner.counts.insert(name.into(), value));
    }

    /// One line of the file.
    pub(crate) fn line(&self, test: &str, form: &str, seconds: f64, outcome: &Result<()>) -> Value {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let error = outcome.as_ref().err().map(|error| first_lines(&format!("{error:#}")));
        self.with(|inner| {
            json!({
                "test": test, "at": at, "form": form, "ok": outcome.is_ok(), "seconds": (seconds * 10.0).round() / 10.0,
                "figures": inner.figures, "counts": inner.counts, "error": error,
            })
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn first_lines(error: &str) -> String {
    error.chars().take(600).collect()
}

/// Appends a line to the file of all runs.
pub(crate) fn keep(line: &Value) -> Result<()> {
    let path = path();
    let folder = path.parent().context("no folder")?;
    std::fs::create_dir_all(folder)?;
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    // One write, so that lines of other processes do not come in between.
    file.write_all(format!("{line}\n").as_bytes()).with_context(|| path.display().to_string())
}

/// Moves the lines of the file to the record of all sessions and machines, and returns that.
pub(crate) fn archive(record: &Path) -> Result<Vec<Value>> {
    let known = read(record)?;
    let new = read(&path())?;
    if !new.is_empty() {
        std::fs::create_dir_all(record.parent().context("no folder")?)?;
        let lines: String = known.iter().chain(&new).map(|line| format!("{line}\n")).collect();
        std::fs::write(record, lines).with_context(|| record.display().to_string())?;
        std::fs::remove_file(path())?;
    }
    Ok([known, new].concat())
}

/// All lines of a file; none if there is no file.
fn read(path: &Path) -> Result<Vec<Value>> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect(),
        Err(_) => Ok(Vec::new()),
    }
}

/// `discox-test/faults.jsonl` in the build folder, which is two above the folder of the test binaries.
fn path() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).or_else(|| {
        let above =
            exe.ancestors().find(|folder| folder.ends_with("debug") || folder.ends_with("release"))?;
        above.parent().map(PathBuf::from)
    });
    target.unwrap_or_else(|| "target".into()).join("discox-test/faults.jsonl")
}
