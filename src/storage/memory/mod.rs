//! Keeps approvals and the control log in memory: for tests of use cases, and for trying things out. Nothing survives the process.
//!
//! Never: anything a store on a disk does not do too; `tests/stores` compares them.

mod control;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::approval::flood::{Facts, FloodLimits};
use crate::approval::{Approval, ApprovalId, Digest, Opening, Status};
use crate::usecase::approval_store::{
    Applied, ApplyCommand, ApprovalFilter, ApprovalPage, ApprovalStore, CommandKey, Delivery,
    DeliveryOutcome, DeliveryState, ListCursor, OpenCommand, Opened, StoreError, StoredRecord,
};
use crate::usecase::control_log::{PlainRecords, RecordEncoder};
use crate::usecase::observing::ApprovalSigns;
use crate::usecase::ports::PortFuture;

use self::control::{EMPTY_RECORD, KeptLog};
use crate::storage::approval_rows::{
    Columns, DENIALS_LOOKED_AT, Plan, Step, cursor_behind, denied_after, forgotten_before, micros,
    moment, opened_after, plan_event, plan_opening, requester_of, rows_at_once, whole_micros,
};
use crate::storage::delivery_rows::{DeliveryRow, LeaseRow, lease_for};

/// How many hints of changes wait for a slow listener.
const CHANGES: usize = 1024;

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
    changes: broadcast::Sender<ApprovalId>,
    encoder: Arc<dyn RecordEncoder>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_encoder(Arc::new(PlainRecords))
    }
}

/// A command that was done.
#[derive(Debug)]
struct KeptCommand {
    payload: Digest,
    approval: ApprovalId,
    at: Timestamp,
}

/// Everything that is kept.
#[derive(Debug, Default)]
struct Kept {
    approvals: BTreeMap<ApprovalId, Approval>,
    records: Vec<StoredRecord>,
    deliveries: BTreeMap<(ApprovalId, String), DeliveryRow>,
    commands: BTreeMap<(String, &'static str, String), KeptCommand>,
    leases: BTreeMap<&'static str, LeaseRow>,
    log: KeptLog,
}

/// What a key that comes again means.
enum Seen {
    /// The same command.
    Repeated(Box<Approval>),
    /// Another one.
    Reused,
}

impl Kept {
    fn seen(&self, key: Option<&CommandKey>) -> Option<Seen> {
        let key = key?;
        let kept = self.commands.get(&name_of(key))?;
        if kept.payload != key.payload {
            return Some(Seen::Reused);
        }
        let approval = self.approvals.get(&kept.approval)?;
        Some(Seen::Repeated(Box::new(approval.clone())))
    }

    fn facts(&self, opening: &Opening, limits: &FloodLimits, now: Timestamp) -> Facts {
        let asked = &opening.asked;
        let same_request = |approval: &&Approval| {
            approval.asked.digest == asked.digest
                && approval.asked.request.caller == asked.request.caller
        };
        let same_requester =
            |approval: &&Approval| approval.asked.request.principal == asked.request.principal;
        let mine = || self.approvals.values().filter(same_request);
        let closed = |approval: &Approval| Columns::of(approval).closed_us;
        let since = Some(micros(denied_after(limits, now)));
        let mut denied: Vec<Approval> = mine()
            .filter(|approval| {
                matches!(approval.status(), Status::Denied | Status::Revoked)
                    && closed(approval) > since
            })
            .cloned()
            .collect();
        denied.sort_by_key(|approval| std::cmp::Reverse(closed(approval)));
        denied.truncate(DENIALS_LOOKED_AT);
        let theirs = || self.approvals.values().filter(same_requester);
        let pending = theirs().filter(|approval| approval.status_at(now) == Status::Pending);
        let mut opened: Vec<Timestamp> = theirs()
            .map(|approval| approval.opened)
            .filter(|opened| *opened > opened_after(now))
            .collect();
        opened.sort_unstable();
        Facts {
            open: mine()
                .find(|approval| !approval.status().is_terminal())
                .cloned(),
            denied,
            pending: u32::try_from(pending.count()).unwrap_or(u32::MAX),
            opened,
        }
    }

    /// Writes a plan and remembers its key. Answers the approvals that changed.
    fn write<A>(
        &mut self,
        plan: &Plan<A>,
        key: Option<CommandKey>,
        now: Timestamp,
    ) -> Result<Vec<ApprovalId>, StoreError> {
        for step in &plan.steps {
            let is_taken = self.approvals.contains_key(&step.approval().id);
            if is_taken && step.replaces().is_none() {
                let id = &step.approval().id;
                return Err(StoreError::RuleBroken(format!("the id `{id}` is taken")));
            }
            if step.records().any(|(_, body)| body.is_empty()) {
                return Err(StoreError::RuleBroken(EMPTY_RECORD.to_owned()));
            }
        }
        for step in &plan.steps {
            self.write_step(step, now);
        }
        if let (Some(key), Some(last), true) = (key, plan.steps.last(), plan.is_accepted) {
            let command = KeptCommand {
                payload: key.payload,
                approval: last.approval().id.clone(),
                at: now,
            };
            self.commands.insert(name_of(&key), command);
        }
        let changed = plan.steps.iter().filter(|step| step.is_change());
        Ok(changed.map(|step| step.approval().id.clone()).collect())
    }

    fn write_step(&mut self, step: &Step, now: Timestamp) {
        let approval = step.approval();
        for (record, body) in step.records() {
            self.log.add(body.to_vec());
            let sequence = u64::try_from(self.records.len()).unwrap_or(u64::MAX);
            self.records.push(StoredRecord {
                sequence: sequence.saturating_add(1),
                record: record.clone(),
            });
        }
        for destination in &step.transition.tell {
            let place = (approval.id.clone(), destination.clone());
            let row = self.deliveries.entry(place).or_default();
            row.desire(approval.version, now);
        }
        self.approvals.insert(approval.id.clone(), approval.clone());
    }

    fn page(
        &self,
        filter: &ApprovalFilter,
        after: Option<&ListCursor>,
        limit: u32,
        now: Timestamp,
    ) -> ApprovalPage {
        let place = |approval: &Approval| (micros(approval.opened), approval.id.clone());
        let is_behind = |approval: &Approval| {
            after.is_none_or(|after| place(approval) < (after.opened_us, after.id.clone()))
        };
        let mut found: Vec<&Approval> = self
            .approvals
            .values()
            .filter(|approval| is_behind(approval) && fits(filter, approval, now))
            .collect();
        found.sort_by_key(|approval| std::cmp::Reverse(place(approval)));
        let limit = usize::try_from(rows_at_once(limit)).unwrap_or(usize::MAX);
        let has_more = found.len() > limit;
        found.truncate(limit);
        ApprovalPage {
            next: found
                .last()
                .filter(|_| has_more)
                .map(|last| cursor_behind(last)),
            approvals: found.into_iter().cloned().collect(),
        }
    }
}

fn name_of(key: &CommandKey) -> (String, &'static str, String) {
    (key.caller.clone(), key.method, key.key.clone())
}

fn fits(filter: &ApprovalFilter, approval: &Approval, now: Timestamp) -> bool {
    let mut rules = approval.requirements.iter().map(|each| &each.rule);
    (filter.statuses.is_empty() || filter.statuses.contains(&approval.status_at(now)))
        && (filter.rules.is_empty() || rules.any(|rule| filter.rules.contains(rule)))
        && filter
            .requester
            .as_ref()
            .is_none_or(|requester| *requester == requester_of(approval))
}

impl MemoryStore {
    /// An empty store; `encoder` makes the bytes of records.
    pub fn with_encoder(encoder: Arc<dyn RecordEncoder>) -> Self {
        Self {
            kept: Mutex::default(),
            changes: broadcast::channel(CHANGES).0,
            encoder,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, changed: Vec<ApprovalId>) {
        for id in changed {
            // Nobody listens: nobody needs to hear.
            drop(self.changes.send(id));
        }
    }

    fn opened(&self, command: OpenCommand, now: Timestamp) -> Result<Opened, StoreError> {
        let OpenCommand {
            opening,
            key,
            limits,
        } = command;
        let mut kept = self.kept();
        match kept.seen(key.as_ref()) {
            Some(Seen::Repeated(approval)) => return Ok(Opened::Repeated(approval)),
            Some(Seen::Reused) => return Ok(Opened::KeyReused),
            None => {}
        }
        let facts = kept.facts(&opening, &limits, now);
        let plan = plan_opening(opening, &limits, facts, now, &*self.encoder);
        self.tell(kept.write(&plan, key, now)?);
        Ok(plan.answer)
    }

    fn applied(&self, command: ApplyCommand, now: Timestamp) -> Result<Applied, StoreError> {
        let mut kept = self.kept();
        match kept.seen(command.key.as_ref()) {
            Some(Seen::Repeated(approval)) => return Ok(Applied::Repeated(approval)),
            Some(Seen::Reused) => return Ok(Applied::KeyReused),
            None => {}
        }
        let Some(approval) = kept.approvals.get(&command.id).cloned() else {
            return Ok(Applied::Unknown);
        };
        let plan = plan_event(
            approval,
            &command.event,
            command.version,
            now,
            &*self.encoder,
        );
        self.tell(kept.write(&plan, command.key, now)?);
        Ok(plan.answer)
    }

    fn overdue(&self, now: Timestamp, limit: u32) -> Vec<ApprovalId> {
        let kept = self.kept();
        let timer = |approval: &Approval| Columns::of(approval).next_timer_us;
        let mut due: Vec<(i64, ApprovalId)> = kept
            .approvals
            .values()
            .filter_map(|approval| timer(approval).map(|timer| (timer, approval.id.clone())))
            .filter(|(timer, _)| *timer <= micros(now))
            .collect();
        due.sort_unstable();
        due.truncate(usize::try_from(rows_at_once(limit)).unwrap_or(usize::MAX));
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn counted(&self, now: Timestamp) -> ApprovalSigns {
        let kept = self.kept();
        let standing = |status: Status| {
            kept.approvals.values().filter(move |approval| {
                let columns = Columns::of(approval);
                let is_live = columns.deadline_us.is_some_and(|at| at > micros(now));
                columns.status == status && is_live
            })
        };
        let deliveries = || kept.deliveries.values().filter(|row| row.is_unfinished());
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        ApprovalSigns {
            pending: number(standing(Status::Pending).count()),
            approved: number(standing(Status::Approved).count()),
            oldest_pending: standing(Status::Pending)
                .map(|each| whole_micros(each.opened))
                .min(),
            undelivered: number(deliveries().count()),
            oldest_undelivered: deliveries()
                .filter(|row| row.due_us <= micros(now))
                .filter_map(|row| moment(row.due_us).ok())
                .min(),
        }
    }

    fn claimed(&self, limit: u32, lease: Duration, now: Timestamp) -> Vec<Delivery> {
        let mut kept = self.kept();
        let mut due: Vec<_> = kept
            .deliveries
            .iter_mut()
            .filter(|(_, row)| row.is_due(now))
            .collect();
        due.sort_by_key(|(_, row)| row.due_us);
        due.truncate(usize::try_from(rows_at_once(limit)).unwrap_or(usize::MAX));
        due.into_iter()
            .map(|(place, row)| row.claim(place.clone(), lease, now))
            .collect()
    }

    fn states(&self, id: Option<&ApprovalId>) -> Vec<DeliveryState> {
        let wanted = |(approval, _): &(ApprovalId, String), row: &DeliveryRow| match id {
            Some(id) => approval == id,
            None => row.is_dead,
        };
        self.kept()
            .deliveries
            .iter()
            .filter(|(place, row)| wanted(place, row))
            .map(|((approval, destination), row)| row.state(approval.clone(), destination.clone()))
            .collect()
    }
}

/// Answers what was done at once.
fn ready<'a, T: Send + 'a>(answer: T) -> PortFuture<'a, Result<T, StoreError>> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl ApprovalStore for MemoryStore {
    fn open(
        &self,
        command: OpenCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move { self.opened(command, whole_micros(now)) })
    }

    fn apply(
        &self,
        command: ApplyCommand,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Applied, StoreError>> {
        Box::pin(async move { self.applied(command, whole_micros(now)) })
    }

    fn find(&self, id: &ApprovalId) -> PortFuture<'_, Result<Option<Approval>, StoreError>> {
        ready(self.kept().approvals.get(id).cloned())
    }

    fn list(
        &self,
        filter: ApprovalFilter,
        after: Option<ListCursor>,
        limit: u32,
        now: Timestamp,
    ) -> PortFuture<'_, Result<ApprovalPage, StoreError>> {
        ready(
            self.kept()
                .page(&filter, after.as_ref(), limit, whole_micros(now)),
        )
    }

    fn due(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<ApprovalId>, StoreError>> {
        ready(self.overdue(whole_micros(now), limit))
    }

    fn signs(&self, now: Timestamp) -> PortFuture<'_, Result<ApprovalSigns, StoreError>> {
        ready(self.counted(whole_micros(now)))
    }

    fn versions(
        &self,
        ids: Vec<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<(ApprovalId, u64)>, StoreError>> {
        let kept = self.kept();
        let version = |id: ApprovalId| {
            let version = kept.approvals.get(&id)?.version;
            Some((id, version))
        };
        ready(ids.into_iter().filter_map(version).collect())
    }

    fn records(&self, id: &ApprovalId) -> PortFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        let kept = self.kept();
        let of = kept
            .records
            .iter()
            .filter(|each| each.record.approval == *id);
        ready(of.cloned().collect())
    }

    fn claim_deliveries(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<Delivery>, StoreError>> {
        Box::pin(async move { Ok(self.claimed(limit, lease, whole_micros(now))) })
    }

    fn finish_delivery(
        &self,
        delivery: Delivery,
        outcome: DeliveryOutcome,
        now: Timestamp,
    ) -> PortFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let place = (delivery.approval.clone(), delivery.destination.clone());
            if let Some(row) = self.kept().deliveries.get_mut(&place) {
                row.finish(&delivery, outcome, whole_micros(now));
            }
            Ok(())
        })
    }

    fn deliveries(
        &self,
        id: Option<ApprovalId>,
    ) -> PortFuture<'_, Result<Vec<DeliveryState>, StoreError>> {
        ready(self.states(id.as_ref()))
    }

    fn lease(
        &self,
        name: &'static str,
        holder: String,
        ttl: Duration,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            let mut kept = self.kept();
            let held = kept.leases.get(name).cloned();
            let row = lease_for(held, holder, ttl, whole_micros(now));
            let epoch = row.as_ref().map(|row| row.epoch);
            if let Some(row) = row {
                kept.leases.insert(name, row);
            }
            Ok(epoch)
        })
    }

    fn forget_commands(&self, now: Timestamp) -> PortFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut kept = self.kept();
            let before = kept.commands.len();
            kept.commands
                .retain(|_, command| command.at >= forgotten_before(now));
            let forgotten = before.saturating_sub(kept.commands.len());
            Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
        })
    }

    fn changes(&self) -> broadcast::Receiver<ApprovalId> {
        self.changes.subscribe()
    }
}
