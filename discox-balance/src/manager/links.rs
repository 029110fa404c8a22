//! Connections and ejections: what happens to one member.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::{FutureExt, StreamExt, future::abortable};
use tokio::time::{Instant, timeout};

use super::{Dialed, Manager, Report, member::Link};
use crate::{Connect, Connected, Connection, hash::hash_key, ready::Ready, shared::count};

/// A record that is back so soon finds its connection.
const FLAP: Duration = Duration::from_secs(1);

/// A connection that has lived so long was a good one, though it has served nothing.
const STABLE: Duration = Duration::from_secs(10);

impl<C: Connect> Manager<C> {
    /// An endpoint is in use now.
    pub(super) fn take_up(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        match std::mem::replace(&mut member.link, Link::Queued) {
            Link::Draining(ready, _) => {
                ready.is_draining.store(false, SeqCst);
                member.link = Link::Open(ready, Instant::now());
                self.board.draining.remove(&id);
                self.enter(id);
            }
            _ => self.queue.push_back(id),
        }
    }

    /// An endpoint is not in use any more: its requests may end.
    pub(super) fn let_go(&mut self, id: u64) {
        self.unseat(id);
        self.board.ejected.remove(&id);
        let drain = self.shared.options.drain.max(FLAP);
        let Some(member) = self.members.get_mut(&id) else { return };
        let now = Instant::now();
        match std::mem::replace(&mut member.link, Link::Idle) {
            Link::Dialing(attempt) => attempt.abort(),
            Link::Open(ready, _) => {
                ready.is_draining.store(true, SeqCst);
                self.board.draining.insert(id, ready.clone());
                member.link = Link::Draining(ready, now);
                self.agenda.add(now + FLAP, id);
                self.agenda.add(now + drain, id);
                return;
            }
            _ => {}
        }
        self.forget(id, now);
    }

    /// Begins as many attempts to connect as may be made at once.
    pub(super) fn dial(&mut self) {
        while self.dialing.len() < self.connect.at_once()
            && let Some(id) = self.queue.pop_front()
        {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if !matches!(member.link, Link::Queued) {
                continue;
            }
            member.epoch += 1;
            let (epoch, limit) = (member.epoch, self.shared.options.connect_timeout);
            let attempt = timeout(limit, self.connect.connect(&member.target))
                .map(move |made| made.unwrap_or_else(|_| Err(format!("no connection within {limit:?}"))));
            let (attempt, handle) = abortable(attempt);
            member.link = Link::Dialing(handle);
            self.dialing.push(attempt.map(move |made| (id, epoch, made.ok())).boxed());
        }
    }

    pub(super) fn dialed(&mut self, (id, epoch, made): Dialed<C::Connection>) {
        let Some(made) = made else { return };
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.epoch != epoch || !matches!(member.link, Link::Dialing(_)) {
            return;
        }
        self.has_changed = true;
        match made {
            Ok(connected) => self.opened(id, connected),
            Err(error) => {
                count(&self.shared.counters.failed_connects);
                tracing::debug!(endpoint = member.target.endpoint(), error, "not connected");
                self.back_off(id, error.into());
            }
        }
    }

    fn opened(&mut self, id: u64, connected: Connected<C::Connection>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        count(&self.shared.counters.connects);
        member.last_error = None;
        let ready = Ready {
            id,
            target: member.target.clone(),
            connection: connected.connection,
            attr: ArcSwap::from_pointee(member.attr.clone()),
            hash: hash_key(member.target.endpoint().as_bytes()),
            health: member.health.clone(),
            signals: self.shared.signals.clone(),
            eject_after: self.shared.options.eject_after,
            has_served: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            picked: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        };
        member.link = Link::Open(Arc::new(ready), Instant::now());
        let epoch = member.epoch;
        self.closing.push(connected.closed.map(move |()| (id, epoch)).boxed());
        member.is_unwell = connected.health.is_some();
        self.reports.extend(connected.health.map(|health| health.map(move |said| (id, epoch, said)).boxed()));
        self.enter(id);
    }

    /// An endpoint says whether it is well.
    pub(super) fn told(&mut self, (id, epoch, said): Report) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.epoch != epoch || !matches!(member.link, Link::Open(..) | Link::Draining(..)) {
            return;
        }
        self.has_changed = true;
        member.is_unwell = said.is_err();
        match said {
            Ok(()) => {
                member.last_error = None;
                if member.open().is_some() {
                    self.enter(id);
                }
            }
            Err(why) => {
                tracing::info!(
                    service = self.shared.name(),
                    endpoint = member.target.endpoint(),
                    why,
                    "not well"
                );
                member.last_error = Some(why.into());
                self.unseat(id);
            }
        }
    }

    /// A connection has closed: another one is made, at once if this one was good.
    pub(super) fn closed(&mut self, (id, epoch): (u64, u64)) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.epoch != epoch {
            return;
        }
        self.has_changed = true;
        match std::mem::replace(&mut member.link, Link::Idle) {
            Link::Open(ready, since) => {
                let was_good = ready.has_served.load(Relaxed) || since.elapsed() >= STABLE;
                self.unseat(id);
                self.board.ejected.remove(&id);
                self.board.retire(ready);
                if was_good {
                    self.redial(id);
                } else {
                    self.back_off(id, "closed before it answered a request".into());
                }
            }
            Link::Draining(ready, _) => {
                self.board.draining.remove(&id);
                self.board.retire(ready);
                self.forget(id, Instant::now());
            }
            other => member.link = other,
        }
    }

    fn redial(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.failed_dials = 0;
        member.link = Link::Queued;
        self.queue.push_back(id);
    }

    /// The next attempt comes after a random part of a pause that doubles.
    fn back_off(&mut self, id: u64, error: Arc<str>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let (shortest, longest) = self.shared.options.backoff;
        let pause = shortest.saturating_mul(2_u32.pow(member.failed_dials.min(20))).min(longest);
        member.failed_dials = member.failed_dials.saturating_add(1);
        member.last_error = Some(error);
        let at = Instant::now() + pause.mul_f64(fastrand::f64());
        member.link = Link::Backoff(at);
        self.agenda.add(at, id);
    }

    /// Something was to be done about a member around now.
    pub(super) fn due(&mut self, id: u64, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if matches!(member.link, Link::Backoff(at) if at <= now) {
            member.link = Link::Queued;
            self.queue.push_back(id);
        }
        if member.ejection.until.is_some_and(|until| until <= now) {
            self.readmit(id);
        }
        self.drained(id, now);
        self.forget(id, now);
    }

    /// A request has told of failures, or was the last one of a connection that drains.
    pub(super) fn reported(&mut self, id: u64) {
        let now = Instant::now();
        self.has_changed |= self.board.sweep();
        self.eject(id, now);
        self.drained(id, now);
    }

    /// Closes what was removed, when its requests have ended or their time is over.
    fn drained(&mut self, id: u64, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Link::Draining(ready, since) = &member.link else { return };
        let age = now.saturating_duration_since(*since);
        let is_over = age >= self.shared.options.drain.max(FLAP);
        if !is_over && (age < FLAP || !ready.is_idle()) {
            return;
        }
        if is_over {
            ready.connection.close();
        }
        let ready = ready.clone();
        member.link = Link::Idle;
        self.board.draining.remove(&id);
        self.board.retire(ready);
        self.has_changed = true;
        self.forget(id, now);
    }

    /// Leaves an endpoint out for a while: never more than half of them, never the last one.
    fn eject(&mut self, id: u64, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else { return };
        // The next failure may report again.
        member.health.reported.store(false, SeqCst);
        let is_failing = member.health.failures.load(Relaxed) >= self.shared.options.eject_after.max(1);
        let has_room = (self.board.ejected.len() + 1) * 2 <= self.board.chosen && self.board.seated() > 1;
        if !is_failing || !has_room || member.seat.is_none() || member.is_ejected() {
            return;
        }
        let until = member.ejection.begin(now);
        self.agenda.add(until, id);
        self.board.ejected.insert(id);
        self.unseat(id);
        count(&self.shared.counters.ejections);
        self.has_changed = true;
    }

    fn readmit(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.ejection.until = None;
        self.board.ejected.remove(&id);
        if member.open().is_some() {
            self.seat(id);
        }
        self.has_changed = true;
    }

    /// No other endpoint is left: one that fails is better than none.
    pub(super) fn readmit_all(&mut self) {
        for id in std::mem::take(&mut self.board.ejected) {
            self.readmit(id);
        }
    }

    /// An open connection takes its seat, unless its endpoint is ejected.
    fn enter(&mut self, id: u64) {
        let is_ejected = self.members.get(&id).is_some_and(|member| member.is_ejected());
        if is_ejected {
            self.board.ejected.insert(id);
        } else {
            self.seat(id);
        }
    }

    pub(super) fn seat(&mut self, id: u64) {
        let Some(member) = self.members.get(&id) else { return };
        let (Some(ready), None, false) = (member.open().cloned(), member.seat, member.is_unwell) else {
            return;
        };
        let (is_near, weight) = (self.is_near(&member.traits), member.traits.weight);
        let seat = self.board.seat(ready, is_near, weight);
        if let Some(member) = self.members.get_mut(&id) {
            member.seat = Some(seat);
        }
    }

    pub(super) fn unseat(&mut self, id: u64) {
        let Some(seat) = self.members.get_mut(&id).and_then(|member| member.seat.take()) else { return };
        let moved = self.board.unseat(seat).and_then(|moved| self.members.get_mut(&moved));
        if let Some(moved) = moved {
            moved.seat = Some(seat);
        }
    }

    /// Drops what is known of an endpoint that is gone, unless its failures are to be remembered: a
    /// record that flaps does not wash it clean.
    fn forget(&mut self, id: u64, now: Instant) {
        let Some(member) = self.members.get(&id) else { return };
        if member.is_listed || !matches!(member.link, Link::Idle) {
            return;
        }
        if let Some(until) = member.ejection.remembered_until().filter(|until| *until > now) {
            self.agenda.add(until, id);
            return;
        }
        self.ids.remove(member.target.endpoint());
        self.members.remove(&id);
    }
}
