//! Keeping one cacher equal to what the registry holds.

mod callbacks;
mod chronicle;
mod derived;
mod discover;
mod fold;
mod handle;
mod mirror;
mod summary;
mod watcher;
mod watching;

pub(crate) use self::handle::Discovery;
pub use self::{
    derived::{Derived, Loaded},
    discover::{Discover, DiscoverState, DiscoverStatus},
    watching::Watching,
};
