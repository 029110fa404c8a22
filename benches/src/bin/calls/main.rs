//! What a balanced call costs, beside tonic's own channels, what a pick costs, and what endpoints cost at rest.
//!
//! ```console
//! $ cargo run --release -p discox-benches --features calls --bin calls
//! $ cargo run --release -p discox-benches --features calls --bin calls -- 400 calls picks
//! ```
//!
//! Prints a table for each part: `calls`, `picks`, `slow`, `changes`, `rest`; all of them when none is named. The servers
//! are another process on the same machine, and the sides take turns. With a number first, each round takes so many
//! milliseconds instead of two seconds.

mod changes;
mod load;
mod picks;
mod rest;
mod sides;
mod slow;
mod unary;

use std::time::Duration;

use anyhow::{Result, bail};
use discox_testkit::grpc::serve_if_told;

fn main() -> Result<()> {
    if serve_if_told()? {
        return Ok(());
    }
    let (mut round, mut parts) = (Duration::from_secs(2), Vec::new());
    for arg in std::env::args().skip(1) {
        match arg.parse() {
            Ok(millis) => round = Duration::from_millis(millis),
            Err(_) => parts.push(arg),
        }
    }
    if parts.is_empty() {
        parts = ["calls", "picks", "slow", "changes", "rest"].map(str::to_owned).into();
    }
    for part in parts {
        match part.as_str() {
            "calls" => unary::calls(round)?,
            "picks" => picks::picks()?,
            "slow" => slow::slow(round)?,
            "changes" => changes::changes()?,
            "rest" => rest::rest()?,
            other => bail!("{other} is none of calls, picks, slow, changes, rest"),
        }
        println!();
    }
    Ok(())
}
