//! What is registered over one connection, and by whom in this process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    backend::{Held, Loss},
    lock::lock,
    record::{Incarnation, Record},
};

/// The claims of one connection.
#[derive(Debug)]
pub(crate) struct Claims<R> {
    table: Mutex<Table<R>>,
    /// A period was used for the first time.
    pub(crate) new_period: Notify,
}

#[derive(Debug)]
struct Table<R> {
    /// Who may write a record, by its key: of several registrations of one endpoint in this process
    /// the latest.
    slots: HashMap<Arc<str>, Slot>,
    held: BTreeMap<Incarnation, Claim<R>>,
    /// How often a record was written and held.
    writes: u64,
}

#[derive(Debug)]
struct Slot {
    owner: Incarnation,
    cell: Arc<ClaimSignal>,
    turn: Arc<Semaphore>,
}

/// A record that heart beats look after.
#[derive(Clone, Debug)]
pub(crate) struct Claim<R> {
    pub(crate) held: Held<R>,
    cell: Arc<ClaimSignal>,
    /// Which write it is, so that a heart beat that began before it says nothing about it.
    write: u64,
}

/// How a registration hears what became of its record.
#[derive(Debug, Default)]
pub(crate) struct ClaimSignal {
    loss: Mutex<Option<Loss>>,
    told: Notify,
    confirmed: Mutex<Option<Instant>>,
}

impl ClaimSignal {
    /// Waits until the record is lost. Cancel-safe.
    pub(crate) async fn lost(&self) -> Loss {
        loop {
            let told = self.told.notified();
            if let Some(loss) = lock(&self.loss).take() {
                return loss;
            }
            told.await;
        }
    }

    /// When a heart beat last found the record as it should be.
    pub(crate) fn confirmed(&self) -> Option<Instant> {
        *lock(&self.confirmed)
    }

    /// The registry has acknowledged the record: what was said of it before is void.
    fn registered(&self) {
        *lock(&self.loss) = None;
        *lock(&self.confirmed) = Some(Instant::now());
    }

    fn tell(&self, loss: Loss) {
        *lock(&self.loss) = Some(loss);
        self.told.notify_one();
    }
}

impl<R> Default for Claims<R> {
    fn default() -> Self {
        Self {
            table: Mutex::new(Table { slots: HashMap::new(), held: BTreeMap::new(), writes: 0 }),
            new_period: Notify::new(),
        }
    }
}

impl<R: Clone> Claims<R> {
    /// Takes the record's slot; whoever had it is superseded.
    pub(crate) fn enter(&self, record: &Record, cell: &Arc<ClaimSignal>) {
        let mut table = lock(&self.table);
        let slot = table.slots.entry(record.key().clone()).or_insert_with(|| Slot::new(record, cell));
        if slot.owner != record.incarnation {
            slot.cell.tell(Loss::Superseded);
            slot.owner = record.incarnation;
            slot.cell = cell.clone();
        }
    }

    /// Takes the record's slot if nobody else in this process has it.
    pub(crate) fn enter_if_free(&self, record: &Record, cell: &Arc<ClaimSignal>) -> bool {
        let mut table = lock(&self.table);
        table.slots.entry(record.key().clone()).or_insert_with(|| Slot::new(record, cell)).owner
            == record.incarnation
    }

    /// Gives the record's slot up.
    pub(crate) fn leave(&self, record: &Record) {
        let mut table = lock(&self.table);
        if table.owns(record) {
            table.slots.remove(record.key());
        }
        table.held.remove(&record.incarnation);
    }

    /// Whether this incarnation may write the record.
    pub(crate) fn owns(&self, record: &Record) -> bool {
        lock(&self.table).owns(record)
    }

    /// Waits for the turn to write a record: requests for one record go out one after the other, so
    /// that a withdrawal under way cannot hit the registration that follows it. None when the slot
    /// is free: then there is nothing to write.
    pub(crate) async fn turn(&self, record: &Record) -> Option<OwnedSemaphorePermit> {
        let turn = lock(&self.table).slots.get(record.key()).map(|slot| slot.turn.clone())?;
        turn.acquire_owned().await.ok()
    }

    /// The record is in the registry: heart beats look after it from now on. False when another registration of
    /// this process has taken the slot while it was written.
    pub(crate) fn hold(&self, held: Held<R>, cell: &Arc<ClaimSignal>) -> bool {
        let period = held.record.period;
        let mut table = lock(&self.table);
        if !table.owns(&held.record) {
            return false;
        }
        cell.registered();
        let known = table.held.values().any(|claim| claim.held.record.period == period);
        table.writes += 1;
        let claim = Claim { cell: cell.clone(), write: table.writes, held };
        table.held.insert(claim.held.record.incarnation, claim);
        if !known {
            self.new_period.notify_one();
        }
        true
    }

    /// The record is not in the registry, or that is not known: heart beats leave it alone.
    pub(crate) fn release(&self, record: &Record) {
        lock(&self.table).held.remove(&record.incarnation);
    }

    /// The periods in use.
    pub(crate) fn periods(&self) -> BTreeSet<Duration> {
        lock(&self.table).held.values().map(|claim| claim.held.record.period).collect()
    }

    /// What a heart beat of this period looks after.
    pub(crate) fn of_period(&self, period: Duration) -> Vec<Claim<R>> {
        let table = lock(&self.table);
        table.held.values().filter(|claim| claim.held.record.period == period).cloned().collect()
    }

    /// A heart beat failed: of records that none has confirmed for their whole TTL nothing is known any more.
    pub(crate) fn not_confirmed(&self, claims: &[Claim<R>]) {
        for claim in claims {
            let ttl = claim.held.record.ttl;
            if claim.cell.confirmed().is_some_and(|confirmed| confirmed.elapsed() > ttl) {
                self.found(claim, Some(Loss::Unconfirmed));
            }
        }
    }

    /// A heart beat has found this out about a record. Void if the record was written meanwhile.
    pub(crate) fn found(&self, claim: &Claim<R>, loss: Option<Loss>) {
        let mut table = lock(&self.table);
        let incarnation = claim.held.record.incarnation;
        let is_current = table.held.get(&incarnation).is_some_and(|current| current.write == claim.write);
        match loss {
            _ if !is_current => {}
            Some(loss) => {
                table.held.remove(&incarnation);
                claim.cell.tell(loss);
            }
            None => *lock(&claim.cell.confirmed) = Some(Instant::now()),
        }
    }
}

impl<R> Table<R> {
    fn owns(&self, record: &Record) -> bool {
        self.slots.get(record.key()).is_some_and(|slot| slot.owner == record.incarnation)
    }
}

impl Slot {
    fn new(record: &Record, cell: &Arc<ClaimSignal>) -> Self {
        Self { owner: record.incarnation, cell: cell.clone(), turn: Arc::new(Semaphore::new(1)) }
    }
}
