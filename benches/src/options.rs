//! What is to be measured.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use discox::BackendType;

/// The command line, understood.
#[derive(Clone, Debug)]
pub struct Options {
    /// Small and short: does it run at all?
    pub quick: bool,
    /// Only this workload.
    pub only: Option<String>,
    /// Only this registry.
    pub backend: Option<BackendType>,
    /// Only this many endpoints.
    pub n: Option<usize>,
    /// So many samples, instead of what is usual.
    pub samples: Option<usize>,
    /// Where results are kept; rows that are not measured again stay.
    pub results: PathBuf,
    /// The folder of the plots, and the document whose marked section is written; none but with
    /// `--publish`.
    pub publish: Option<Publish>,
    /// Nothing is measured, only published.
    pub measure: bool,
}

/// Where results are published.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The folder of the plots.
    pub plots: PathBuf,
    /// The document.
    pub document: PathBuf,
}

/// What `--help` says.
pub const USAGE: &str = "\
discox-bench: discox and the raw clients side by side, on servers that it starts

  --quick             small and short, at most three minutes
  --only WORKLOAD     propagation, fences, first_list, churn, memory, watched, kept or reads
  --backend NAME      etcd, zookeeper or consul
  --n N               only with so many endpoints
  --samples N         so many samples
  --results FILE      where results are kept (JSON); rows not measured again stay
  --publish           writes docs/performance (results and plots) and their section of PERFORMANCE.md
  --render            as --publish, from the results there are, without measuring";

impl Options {
    /// Understands a command line, without the program's name. None is a call for help.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let published = root.join("docs/performance");
        let mut results = None;
        let mut options = Self {
            quick: false,
            only: None,
            backend: None,
            n: None,
            samples: None,
            results: PathBuf::new(),
            publish: None,
            measure: true,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.only = Some(known(value()?)?),
                "--backend" => options.backend = Some(value()?.parse()?),
                "--n" => options.n = Some(value()?.parse()?),
                "--samples" => options.samples = Some(value()?.parse()?),
                "--results" => results = Some(value()?.into()),
                "--publish" | "--render" => {
                    let document = root.join("PERFORMANCE.md");
                    options.publish = Some(Publish { plots: published.clone(), document });
                    options.measure = word == "--publish";
                }
                "--help" | "-h" => return Ok(None),
                other => bail!("{other} is not understood\n{USAGE}"),
            }
        }
        let usual = match options.publish {
            Some(_) => published.join("results.json"),
            None => std::env::temp_dir().join("discox-bench.json"),
        };
        options.results = results.unwrap_or(usual);
        Ok(Some(options))
    }

    /// The registries to be measured.
    pub fn backends(&self) -> Vec<BackendType> {
        let all = [BackendType::Etcd, BackendType::Zookeeper, BackendType::Consul];
        all.into_iter().filter(|backend| self.backend.is_none_or(|only| only == *backend)).collect()
    }

    /// The numbers of endpoints to measure with: the one that was asked for, else the usual ones.
    pub fn sizes(&self, usual: &[usize], quick: &[usize]) -> Vec<usize> {
        let usual = if self.quick { quick } else { usual };
        self.n.map_or_else(|| usual.to_vec(), |n| vec![n])
    }

    /// How many samples to take: as many as were asked for, else the usual number.
    pub fn samples(&self, usual: usize, quick: usize) -> usize {
        self.samples.unwrap_or(if self.quick { quick } else { usual })
    }
}

fn known(workload: String) -> Result<String> {
    let known = crate::workloads::ALL.iter().any(|(name, _)| *name == workload);
    if known { Ok(workload) } else { bail!("there is no workload {workload}\n{USAGE}") }
}
