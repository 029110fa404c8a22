//! What the program has allocated.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what is allocated, by both sides alike.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated and not freed.
pub fn live_bytes() -> i64 {
    let stats = ALLOCATOR.stats();
    let bytes = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    bytes(stats.bytes_allocated) - bytes(stats.bytes_deallocated)
}

/// Allocations so far.
pub fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}
