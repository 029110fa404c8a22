//! `discox doctor`: reaches the registry as configured, and says line by line what works and what to change.
//!
//! Every member is looked at by itself (`member.rs`), then the registry as a program uses it (`rights.rs`). Nothing that
//! is secret is read here or printed; what it writes is a record of its own with a short TTL, which it removes.

mod address;
mod certificate;
mod http;
mod member;
mod report;
mod rights;

use std::time::Duration;

use discox::DiscoverConfig;
use futures_util::future::join_all;
use tokio::time::timeout;

use self::{
    address::Address,
    report::{Outcome, Report},
    rights::Patient,
};
use crate::{
    failure::Failure,
    output::Format,
    signals::{Signal, Signals},
};

/// What the end may take. Where we may not delete, our record ends with its TTL.
const ENDING: Duration = Duration::from_secs(2);

/// Runs all checks. The exit code is 0 when none failed.
pub(crate) async fn run(config: DiscoverConfig, output: Format) -> Result<u8, Failure> {
    // What is written wrongly is told as everywhere else.
    discox::new_discover(rights::throw_away(&config))?;
    let patient = Patient::connect(&config)?;
    let mut signals = Signals::catch()?;
    let mut report = Report::new(output);
    let examined = tokio::select! {
        examined = examine(&config, &patient, &mut report) => examined.map(|()| None),
        signal = signals.next() => Ok(Some(signal)),
    };
    // Our record goes too, where a signal has come while it was there.
    let _ = timeout(ENDING, patient.close()).await;
    examined.map_err(|error| Failure::output(error.kind()))?.map_or_else(
        || report.end().map_err(|error| Failure::output(error.kind())),
        |signal: Signal| Ok(signal.exit_code()),
    )
}

async fn examine(config: &DiscoverConfig, patient: &Patient, report: &mut Report) -> std::io::Result<()> {
    let addresses = Address::all(config);
    let members = addresses.iter().map(|address| member::examine(config, address));
    let mut is_reachable = false;
    for checks in join_all(members).await {
        is_reachable |= checks.iter().any(|check| check.name == "tcp" && check.outcome == Outcome::Ok);
        report.add(checks)?;
    }
    rights::examine(config, patient, is_reachable, report).await
}
