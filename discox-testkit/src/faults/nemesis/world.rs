//! Where a schedule is played: the stage, what has joined and left it, and what is silent at the moment.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use discox_core::Register;
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard},
    time::{Instant, sleep_until},
};

use super::super::{
    cell::Topology,
    stage::{Live, Stage},
    watcher::Watcher,
};

/// Between two silences of a registry: long enough for a heart beat of everybody. Without it many silences, each too
/// short to be noticed, would together be longer than a TTL.
const BREATH: Duration = Duration::from_secs(3);

/// A registration in this process.
pub(super) struct Registrar {
    pub(super) endpoint: String,
    pub(super) register: Arc<dyn Register>,
    /// Held while something is done to it: the last of two calls wins, and here it is known which one is the last.
    pub(super) turn: AsyncMutex<()>,
}

/// The stage, shared by the steps that overlap.
pub(super) struct World<'a> {
    pub(super) stage: &'a Stage,
    registrars: Mutex<Vec<Arc<Registrar>>>,
    /// Watchers that have come and gone.
    pub(super) visitors: Mutex<Vec<Watcher>>,
    /// What was done to a server is undone before the next thing is done to it.
    members: Vec<AsyncMutex<()>>,
    silence: Silence,
    attrs: AtomicUsize,
    /// What went wrong that no judge would see.
    complaints: Mutex<Vec<String>>,
}

impl<'a> World<'a> {
    /// With the stage's fleet, of which a handle must not be kept anywhere else: some are dropped.
    pub(super) fn new(stage: &'a Stage, fleet: Vec<Live>) -> Self {
        let registrars = fleet.into_iter().map(|Live { endpoint, register }| {
            Arc::new(Registrar { endpoint, register, turn: AsyncMutex::default() })
        });
        Self {
            stage,
            registrars: Mutex::new(registrars.collect()),
            visitors: Mutex::default(),
            members: stage.servers.members().iter().map(|_| AsyncMutex::default()).collect(),
            silence: Silence::default(),
            attrs: AtomicUsize::new(0),
            complaints: Mutex::default(),
        }
    }

    /// An attr that was never used.
    pub(super) fn attr(&self) -> String {
        format!("attr {}", self.attrs.fetch_add(1, Relaxed))
    }

    /// Those that are registered, by intent.
    pub(super) fn registrars(&self) -> Vec<Arc<Registrar>> {
        lock(&self.registrars).clone()
    }

    /// One of those that are registered.
    pub(super) fn registrar(&self, number: usize) -> Option<Arc<Registrar>> {
        let all = lock(&self.registrars);
        all.get(number % all.len().max(1)).cloned()
    }

    /// Takes one out: it is going to leave. Some always stay.
    pub(super) fn take(&self, number: usize) -> Option<Arc<Registrar>> {
        let mut all = lock(&self.registrars);
        if all.len() <= 2 {
            return None;
        }
        let number = number % all.len();
        Some(all.remove(number))
    }

    pub(super) fn joined(&self, endpoint: String, register: Arc<dyn Register>) {
        lock(&self.registrars).push(Arc::new(Registrar { endpoint, register, turn: AsyncMutex::default() }));
    }

    /// Puts a later incarnation in the place of an earlier one.
    pub(super) fn replaced(&self, earlier: &Arc<Registrar>, register: Arc<dyn Register>) {
        let mut all = lock(&self.registrars);
        if let Some(place) = all.iter_mut().find(|one| Arc::ptr_eq(one, earlier)) {
            *place = Arc::new(Registrar {
                endpoint: earlier.endpoint.clone(),
                register,
                turn: AsyncMutex::default(),
            });
        }
    }

    pub(super) async fn member(&self, member: usize) -> MutexGuard<'_, ()> {
        self.members[member].lock().await
    }

    /// Begins to silence the registry: waits for a breath after the last silence, or overlaps with one that lasts. Of a
    /// cluster only one member at a time: nobody promises anything of those that can reach no member.
    pub(super) async fn silence(&self) -> Silent<'_> {
        let alone = match self.stage.cell.topology {
            Topology::Single => None,
            Topology::Cluster => Some(self.silence.one.lock().await),
        };
        loop {
            let until = {
                let mut state = lock(&self.silence.state);
                match state.ended {
                    Some(ended) if state.silent == 0 && ended.elapsed() < BREATH => ended + BREATH,
                    _ => {
                        state.silent += 1;
                        return Silent { silence: &self.silence, _alone: alone };
                    }
                }
            };
            sleep_until(until).await;
        }
    }

    /// What is left: who is registered, the visitors, and what went wrong.
    pub(super) fn over(self) -> (Vec<Live>, Vec<Watcher>, Vec<String>) {
        let registrars = self.registrars();
        let fleet = registrars
            .iter()
            .map(|one| Live { endpoint: one.endpoint.clone(), register: one.register.clone() });
        (
            fleet.collect(),
            std::mem::take(&mut lock(&self.visitors)),
            std::mem::take(&mut lock(&self.complaints)),
        )
    }

    pub(super) fn complain(&self, complaint: String) {
        lock(&self.complaints).push(complaint);
    }
}

#[derive(Default)]
struct Silence {
    one: AsyncMutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    silent: usize,
    ended: Option<Instant>,
}

/// The registry is silent until this is dropped.
pub(super) struct Silent<'a> {
    silence: &'a Silence,
    _alone: Option<MutexGuard<'a, ()>>,
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.silence.state);
        state.silent -= 1;
        state.ended = Some(Instant::now());
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
