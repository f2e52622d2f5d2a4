//! The control log in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::tree::Frontier;
use crate::storage::approval_rows::{check_sequence, micros, rows_at_once, whole_micros};
use crate::storage::delivery_rows::LeaseRow;
use crate::usecase::approval_store::StoreError;
use crate::usecase::control_log::{
    ControlHead, ControlLog, PendingEntry, SEQUENCER, SequenceCommand,
};
use crate::usecase::ports::PortFuture;

use super::{Kept, MemoryStore, ready};

pub(super) const EMPTY_RECORD: &str = "a record of the control log is not empty";

/// What is kept of the log.
#[derive(Debug, Default)]
pub(super) struct KeptLog {
    /// Every record; its number is the last key and one, beginning with 1.
    entries: BTreeMap<u64, Vec<u8>>,
    /// What waits for its place.
    queue: BTreeSet<u64>,
    /// What has one.
    places: Vec<u64>,
    frontier: Frontier,
    /// The epoch under which the frontier was written.
    epoch: u64,
    checkpoints: BTreeMap<u64, String>,
}

impl KeptLog {
    /// Keeps a record, which waits for its place from then on.
    pub(super) fn add(&mut self, body: Vec<u8>) {
        let last = self.entries.last_key_value();
        let entry = last.map_or(1, |(last, _)| last.saturating_add(1));
        self.entries.insert(entry, body);
        self.queue.insert(entry);
    }

    fn pending(&self, after: u64, limit: u32) -> Vec<PendingEntry> {
        let behind = self.queue.iter().filter(|entry| **entry > after);
        let waiting = behind.filter_map(|entry| {
            Some(PendingEntry {
                entry: *entry,
                bytes: self.entries.get(entry)?.clone(),
            })
        });
        waiting.take(at_once(limit)).collect()
    }

    fn head(&self) -> ControlHead {
        ControlHead {
            frontier: self.frontier.clone(),
            checkpoint: self.checkpoints.values().next_back().cloned(),
        }
    }

    fn all_wait(&self, entries: &[u64]) -> bool {
        let named: BTreeSet<u64> = entries.iter().copied().collect();
        named.len() == entries.len() && named.is_subset(&self.queue)
    }

    fn keep_checkpoint(&mut self, size: u64, note: String) -> Result<(), StoreError> {
        let last = self.checkpoints.last_key_value();
        if last.is_some_and(|(last, _)| *last >= size) {
            return Ok(());
        }
        if size > self.frontier.size() {
            let what = "a checkpoint is of what has a place".to_owned();
            return Err(StoreError::RuleBroken(what));
        }
        self.checkpoints.insert(size, note);
        Ok(())
    }

    fn bodies(&self, from: u64, limit: u32) -> Vec<Vec<u8>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let placed = self.places.iter().skip(from).take(at_once(limit));
        placed
            .filter_map(|entry| self.entries.get(entry).cloned())
            .collect()
    }

    fn checkpoints(&self, above: u64, limit: u32) -> Vec<(u64, String)> {
        let all = self.checkpoints.iter();
        all.filter(|(size, _)| **size > above)
            .take(at_once(limit))
            .map(|(size, note)| (*size, note.clone()))
            .collect()
    }
}

fn at_once(limit: u32) -> usize {
    usize::try_from(rows_at_once(limit)).unwrap_or(usize::MAX)
}

impl Kept {
    fn sequence(&mut self, command: SequenceCommand) -> Result<bool, StoreError> {
        check_sequence(&command)?;
        let now_us = micros(whole_micros(command.now));
        let is_held = |lease: &LeaseRow| {
            lease.holder == command.holder
                && lease.epoch == command.epoch
                && lease.until_us > now_us
        };
        if self.log.frontier.size() != command.from
            || self.log.epoch > command.epoch
            || !self.leases.get(SEQUENCER).is_some_and(is_held)
            || !self.log.all_wait(&command.entries)
        {
            return Ok(false);
        }
        if command.entries.is_empty() {
            return Ok(true);
        }
        for entry in command.entries {
            self.log.queue.remove(&entry);
            self.log.places.push(entry);
        }
        self.log.frontier = command.frontier;
        self.log.epoch = command.epoch;
        Ok(true)
    }
}

impl ControlLog for MemoryStore {
    fn append(&self, records: Vec<Vec<u8>>) -> PortFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if records.iter().any(Vec::is_empty) {
                return Err(StoreError::RuleBroken(EMPTY_RECORD.to_owned()));
            }
            let mut kept = self.kept();
            for body in records {
                kept.log.add(body);
            }
            Ok(())
        })
    }

    fn pending(
        &self,
        after: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<PendingEntry>, StoreError>> {
        ready(self.kept().log.pending(after, limit))
    }

    fn head(&self) -> PortFuture<'_, Result<ControlHead, StoreError>> {
        ready(self.kept().log.head())
    }

    fn sequence(&self, command: SequenceCommand) -> PortFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move { self.kept().sequence(command) })
    }

    fn keep_checkpoint(&self, size: u64, note: String) -> PortFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.kept().log.keep_checkpoint(size, note) })
    }

    fn sequenced(&self, from: u64, limit: u32) -> PortFuture<'_, Result<Vec<Vec<u8>>, StoreError>> {
        ready(self.kept().log.bodies(from, limit))
    }

    fn checkpoints(
        &self,
        above: u64,
        limit: u32,
    ) -> PortFuture<'_, Result<Vec<(u64, String)>, StoreError>> {
        ready(self.kept().log.checkpoints(above, limit))
    }
}
