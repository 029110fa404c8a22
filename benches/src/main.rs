//! Measures discox and the raw clients side by side: see `PERFORMANCE.md`.

fn main() -> anyhow::Result<()> {
    discox_benches::program::run()
}
