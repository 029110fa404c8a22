//! The conformance suite on every backend: the embedded one, and real etcd, ZooKeeper and Consul.
//!
//! `cargo test --test conformance -- etcd::takeover` plays a part of it.

mod grounds;

use std::process::ExitCode;

fn main() -> ExitCode {
    discox_testkit::conformance::run(grounds::all())
}
