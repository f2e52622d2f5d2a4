//! A store that fails when a test says so.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use countersign::approval::{Approval, ApprovalId, Event};
use countersign::storage::memory::MemoryStore;
use countersign::usecase::approval_store::{
    Applied, ApplyCommand, ApprovalFilter, ApprovalPage, ApprovalStore, Delivery, DeliveryOutcome,
    DeliveryState, ListCursor, OpenCommand, Opened, StoreError, StoredRecord,
};
use countersign::usecase::observing::ApprovalSigns;
use countersign::usecase::ports::PortFuture;
use jiff::Timestamp;
use tokio::sync::broadcast;

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Apply,
    Find,
    List,
    Due,
    Versions,
    Deliveries,
    Claim,
    Finish,
    Lease,
}

/// How it goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing is done.
    NotDone,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// Something else happens to the approval first.
    Meanwhile(Box<Event>),
}

/// A store with the next faults.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    faults: Mutex<VecDeque<(Operation, Fault)>>,
    /// What cannot be changed, whatever is tried.
    broken: Mutex<Option<ApprovalId>>,
}

fn unreachable() -> StoreError {
    StoreError::Unreachable("as the test wants it".to_owned())
}

impl FaultyStore {
    pub(crate) fn new(inner: MemoryStore) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// The next operation of this kind goes wrong.
    pub(crate) fn fail(&self, operation: Operation, fault: Fault) {
        self.faults.lock().unwrap().push_back((operation, fault));
    }

    /// This approval cannot be changed any more.
    pub(crate) fn damage(&self, id: &ApprovalId) {
        *self.broken.lock().unwrap() = Some(id.clone());
    }

    /// Whether everything that was to go wrong went wrong.
    pub(crate) fn is_through(&self) -> bool {
        self.faults.lock().unwrap().is_empty()
    }

    fn fault(&self, operation: Operation) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(of, _)| *of == operation)?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    fn around<'a, T: Send + 'a>(
        &self,
        operation: Operation,
        done: PortFuture<'a, Result<T, StoreError>>,
    ) -> PortFuture<'a, Result<T, StoreError>> {
        match self.fault(operation) {
            None => done,
            Some(Fault::NotDone) => Box::pin(std::future::ready(Err(unreachable()))),
            Some(Fault::AnswerLost) => Box::pin(async move {
                drop(done.await);
                Err(unreachable())
            }),
            Some(Fault::Meanwhile(event)) => panic!("{event:?} happens to applying only"),
        }
    }
}

impl ApprovalStore for FaultyStore {
    fn signs(&self, now: Timestamp) -> PortFuture<'_, Result<ApprovalSigns, StoreError>> {
        self.inner.signs(now)
    }

    fn open(
        &self,
        command: OpenCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Opened, StoreError>> {
        self.around(Operation::Open, self.inner.open(command, now))
    }

    fn apply(
        &self,
        command: ApplyCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Applied, StoreError>> {
        let is_broken = self.broken.lock().unwrap().as_ref() == Some(&command.id);
        if is_broken {
            let error = StoreError::Corrupt("as the test wants it".to_owned());
            return Box::pin(std::future::ready(Err(error)));
        }
        let fault = self.fault(Operation::Apply);
        Box::pin(async move {
            match fault {
                None => self.inner.apply(command, now).await,
                Some(Fault::NotDone) => Err(unreachable()),
                Some(Fault::AnswerLost) => {
                    drop(self.inner.apply(command, now).await);
                    Err(unreachable())
                }
                Some(Fault::Meanwhile(event)) => {
                    let first = ApplyCommand {
                        id: command.id.clone(),
                        event: *event,
                        version: None,
                        key: None,
                    };
                    self.inner.apply(first, now).await?;
                    self.inner.apply(command, now).await
                }
            }
        })
    }

    fn find(&self, id: &ApprovalId) -> PortFuture<'_, Result<Option<Approval>, StoreError>> {
        self.around(Operation::Find, self.inner.find(id))
    }

    fn list(
        &self,
        filter: ApprovalFilter,
        after: Option<ListCursor>,
        limit: u32,
        now: Timestamp,
    ) -> PortFuture<'_, Result<ApprovalPage, StoreError>> {
        self.around(Operation::List, self.inner.list(filter, after, limit, now))
    }

    fn due(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<ApprovalId>, StoreError>> {
        self.around(Operation::Due, self.inner.due(now, limit))
    }

    fn versions(
        &self,
        ids: Vec<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<(ApprovalId, u64)>, StoreError>> {
        self.around(Operation::Versions, self.inner.versions(ids))
    }

    fn records(&self, id: &ApprovalId) -> PortFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        self.inner.records(id)
    }

    fn claim_deliveries(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<Delivery>, StoreError>> {
        let claimed = self.inner.claim_deliveries(limit, lease, now);
        self.around(Operation::Claim, claimed)
    }

    fn finish_delivery(
        &self,
        delivery: Delivery,
        outcome: DeliveryOutcome,
        now: Timestamp,
    ) -> PortFuture<'_, Result<(), StoreError>> {
        let finished = self.inner.finish_delivery(delivery, outcome, now);
        self.around(Operation::Finish, finished)
    }

    fn deliveries(
        &self,
        id: Option<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<DeliveryState>, StoreError>> {
        self.around(Operation::Deliveries, self.inner.deliveries(id))
    }

    fn lease(
        &self,
        name: &'static str,
        holder: String,
        ttl: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Option<u64>, StoreError>> {
        let lease = self.inner.lease(name, holder, ttl, now);
        self.around(Operation::Lease, lease)
    }

    fn forget_commands(&self, now: Timestamp) -> PortFuture<'_, Result<u64, StoreError>> {
        self.inner.forget_commands(now)
    }

    fn changes(&self) -> broadcast::Receiver<ApprovalId> {
        self.inner.changes()
    }
}
