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
    key::{Incarnation, Record},
    lock::lock,
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
}

#[derive(Debug)]
struct Slot {
    owner: Incarnation,
    cell: Arc<Cell>,
    turn: Arc<Semaphore>,
}

#[derive(Debug)]
struct Claim<R> {
    held: Held<R>,
    cell: Arc<Cell>,
}

/// How a registration hears what became of its record.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    loss: Mutex<Option<Loss>>,
    told: Notify,
    confirmed: Mutex<Option<Instant>>,
}

impl Cell {
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
    pub(crate) fn registered(&self) {
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
            table: Mutex::new(Table { slots: HashMap::new(), held: BTreeMap::new() }),
            new_period: Notify::new(),
        }
    }
}

impl<R: Clone> Claims<R> {
    /// Takes the record's slot; whoever had it is superseded.
    pub(crate) fn enter(&self, record: &Record, cell: &Arc<Cell>) {
        let mut table = lock(&self.table);
        let slot = table.slots.entry(record.key().clone()).or_insert_with(|| Slot::new(record, cell));
        if slot.owner != record.incarnation {
            slot.cell.tell(Loss::Superseded);
            slot.owner = record.incarnation;
            slot.cell = cell.clone();
        }
    }

    /// Takes the record's slot if nobody else in this process has it.
    pub(crate) fn enter_if_free(&self, record: &Record, cell: &Arc<Cell>) -> bool {
        let mut table = lock(&self.table);
        table.slots.entry(record.key().clone()).or_insert_with(|| Slot::new(record, cell)).owner
            == record.incarnation
    }

    /// Gives the record's slot up.
    pub(crate) fn leave(&self, record: &Record) {
        let mut table = lock(&self.table);
        if table.slots.get(record.key()).is_some_and(|slot| slot.owner == record.incarnation) {
            table.slots.remove(record.key());
        }
        table.held.remove(&record.incarnation);
    }

    /// Whether this incarnation may write the record.
    pub(crate) fn owns(&self, record: &Record) -> bool {
        lock(&self.table).slots.get(record.key()).is_some_and(|slot| slot.owner == record.incarnation)
    }

    /// Waits for the turn to write a record: requests for one record go out one after the other, so
    /// that a withdrawal under way cannot hit the registration that follows it. None when the slot
    /// is free: then there is nothing to write.
    pub(crate) async fn turn(&self, record: &Record) -> Option<OwnedSemaphorePermit> {
        let turn = lock(&self.table).slots.get(record.key()).map(|slot| slot.turn.clone())?;
        turn.acquire_owned().await.ok()
    }

    /// The record is in the registry: heart beats look after it from now on.
    pub(crate) fn hold(&self, held: Held<R>, cell: &Arc<Cell>) {
        let period = held.record.period;
        let mut table = lock(&self.table);
        let known = table.held.values().any(|claim| claim.held.record.period == period);
        table.held.insert(held.record.incarnation, Claim { held, cell: cell.clone() });
        if !known {
            self.new_period.notify_one();
        }
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
    pub(crate) fn of_period(&self, period: Duration) -> Vec<(Held<R>, Arc<Cell>)> {
        let table = lock(&self.table);
        let due = table.held.values().filter(|claim| claim.held.record.period == period);
        due.map(|claim| (claim.held.clone(), claim.cell.clone())).collect()
    }

    /// A heart beat has found this out about a record. Void if the record was written meanwhile.
    pub(crate) fn found(&self, held: &Held<R>, cell: &Cell, loss: Option<Loss>) {
        let mut table = lock(&self.table);
        let incarnation = held.record.incarnation;
        let current =
            table.held.get(&incarnation).is_some_and(|claim| Arc::ptr_eq(&claim.held.attr, &held.attr));
        match loss {
            _ if !current => {}
            Some(loss) => {
                table.held.remove(&incarnation);
                cell.tell(loss);
            }
            None => *lock(&cell.confirmed) = Some(Instant::now()),
        }
    }
}

impl Slot {
    fn new(record: &Record, cell: &Arc<Cell>) -> Self {
        Self { owner: record.incarnation, cell: cell.clone(), turn: Arc::new(Semaphore::new(1)) }
    }
}
