//! How mutexes are locked here.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it, even if somebody has panicked with it locked: what mutexes guard here is whole between any two steps. Blocks
/// for as long as another thread holds it, which is never across an await.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
