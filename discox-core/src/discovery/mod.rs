//! Keeping one cacher equal to what the registry holds.

mod callbacks;
mod chronicle;
mod derived;
mod discover;
mod first_list;
mod fold;
mod handle;
mod mirror;
mod services;
mod summary;
mod target;
mod watcher;
mod watching;

pub use self::{
    derived::{Derived, Loaded},
    discover::{Discover, DiscoverState, DiscoverStatus},
    services::{ServiceChange, ServiceChanges, Services},
    watching::Watching,
};
pub(crate) use self::{first_list::first_list, handle::Discovery};
