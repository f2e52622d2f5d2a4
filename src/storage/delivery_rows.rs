//! How telling one place goes on, and who holds a lease: pure, so that every store does it alike.

use std::time::Duration;

use jiff::Timestamp;

use crate::approval::ApprovalId;
use crate::usecase::approval_store::{Delivery, DeliveryOutcome, DeliveryState};

use super::approval_rows::{later, micros};

/// How telling one place of one approval stands, as columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeliveryRow {
    /// The version the place must hear of.
    pub(super) desired_version: u64,
    /// The version it has heard of.
    pub(super) posted_version: u64,
    /// How often it was tried to tell the desired version.
    pub(super) attempts: u32,
    /// From when on it is due, if anything is left to tell.
    pub(super) due_us: i64,
    /// Until when a worker holds it.
    pub(super) leased_until_us: Option<i64>,
    /// Whether it was given up.
    pub(super) is_dead: bool,
    /// What went wrong last.
    pub(super) error: Option<String>,
    /// What the place calls the message.
    pub(super) reference: Option<String>,
}

impl DeliveryRow {
    /// Wants `version` to be told. Time that a place was given to recover is left to it.
    pub(super) fn desire(&mut self, version: u64, now: Timestamp) {
        if !self.is_unfinished() {
            self.due_us = micros(now);
            self.error = None;
        }
        self.desired_version = self.desired_version.max(version);
        self.attempts = 0;
        self.is_dead = false;
    }

    /// Whether something is left to tell, and not given up.
    pub(super) fn is_unfinished(&self) -> bool {
        self.posted_version < self.desired_version && !self.is_dead
    }

    /// Whether a worker may take it.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let now = micros(now);
        self.is_unfinished()
            && self.due_us <= now
            && self.leased_until_us.is_none_or(|until| until <= now)
    }

    /// Gives it to a worker for `lease` long.
    pub(super) fn claim(
        &mut self,
        (approval, destination): (ApprovalId, String),
        lease: Duration,
        now: Timestamp,
    ) -> Delivery {
        let leased_until = later(now, lease);
        self.leased_until_us = Some(micros(leased_until));
        self.attempts = self.attempts.saturating_add(1);
        Delivery {
            approval,
            destination,
            desired_version: self.desired_version,
            posted_version: self.posted_version,
            attempt: self.attempts,
            reference: self.reference.clone(),
            leased_until,
        }
    }

    /// Keeps how `delivery` went. Answers whether its worker still held it; if not, nothing is changed.
    pub(super) fn finish(
        &mut self,
        delivery: &Delivery,
        outcome: DeliveryOutcome,
        now: Timestamp,
    ) -> bool {
        if self.leased_until_us != Some(micros(delivery.leased_until)) {
            return false;
        }
        self.leased_until_us = None;
        match outcome {
            DeliveryOutcome::Posted { version, reference } => {
                self.posted_version = self.posted_version.max(version);
                self.reference = reference.or_else(|| self.reference.take());
                self.error = None;
                self.due_us = micros(now);
            }
            DeliveryOutcome::Retry { at, error } => {
                self.error = Some(error);
                self.due_us = micros(at);
            }
            DeliveryOutcome::Dead { error } => {
                self.error = Some(error);
                self.due_us = micros(now);
                // What changed meanwhile has not been tried yet.
                self.is_dead = self.desired_version <= delivery.desired_version;
            }
        }
        true
    }

    /// How it stands, for people.
    pub(super) fn state(&self, approval: ApprovalId, destination: String) -> DeliveryState {
        DeliveryState {
            approval,
            destination,
            desired_version: self.desired_version,
            posted_version: self.posted_version,
            attempts: self.attempts,
            is_dead: self.is_dead,
            error: self.error.clone(),
        }
    }
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseRow {
    /// The holder.
    pub(super) holder: String,
    /// Grows with each other holder.
    pub(super) epoch: u64,
    /// Until when.
    pub(super) until_us: i64,
}

/// The lease after `holder` has asked for it; none while another holds it.
pub(super) fn lease_for(
    held: Option<LeaseRow>,
    holder: String,
    ttl: Duration,
    now: Timestamp,
) -> Option<LeaseRow> {
    let epoch = match held {
        None => 1,
        Some(held) if held.holder == holder => held.epoch,
        Some(held) if held.until_us <= micros(now) => held.epoch.saturating_add(1),
        Some(_) => return None,
    };
    Some(LeaseRow {
        holder,
        epoch,
        until_us: micros(later(now, ttl)),
    })
}
