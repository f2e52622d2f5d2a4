//! Compares the store of approvals with the control log.

use crate::approval::ApprovalId;
use crate::audit::verify::{
    ControlFacts, DatabaseCheck, DatabaseCounts, Finding, Findings, Kind, Stored, StoredRedemption,
    StoredVote,
};
use crate::policy::canonical_extension;
use crate::usecase::approval_store::StoreError;
use crate::usecase::evidence::{ApprovalEvidence, Evidence};

use super::verify_logs::Control;

/// How much is asked for at once.
const PAGE: u32 = 512;

/// Compares what `evidence` gives with the control log `log`, which said `control`.
pub(super) fn compare(
    evidence: &dyn Evidence,
    control: &mut ControlFacts,
    log: &Control,
    findings: &mut Findings,
) -> DatabaseCounts {
    let mut check = DatabaseCheck::new(control, canonical_extension);
    let compared = compare_all(evidence, log, &mut check, findings);
    match compared {
        Ok(()) => check.end(findings),
        Err(error @ StoreError::Corrupt(_)) => {
            let says = format!("the database holds what it cannot hold: {error}");
            findings.add(Finding::new(Kind::DatabaseControl, "database", says));
            check.counts()
        }
        Err(error) => {
            let says = format!("the database cannot be read: {error}");
            findings.add(Finding::new(Kind::DatabaseUnreadable, "database", says));
            check.counts()
        }
    }
}

fn compare_all(
    evidence: &dyn Evidence,
    log: &Control,
    check: &mut DatabaseCheck<'_>,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let size = evidence.control_size()?;
    let mut next = 0_u64;
    loop {
        let bodies = evidence.control_bodies(next, PAGE)?;
        if bodies.is_empty() {
            break;
        }
        for body in bodies {
            let in_log = log.record(next);
            check.record(&body, in_log.as_deref(), findings);
            next = next.saturating_add(1);
        }
    }
    if next != size {
        return Err(StoreError::Corrupt(format!(
            "there are {next} of {size} records of the control log"
        )));
    }
    check.head(&evidence.control_head()?.frontier, log.size(), findings);
    let mut after = 0_u64;
    loop {
        let pending = evidence.pending_bodies(after, PAGE)?;
        let Some(last) = pending.last() else {
            break;
        };
        after = last.entry;
        for entry in &pending {
            check.ahead(&entry.bytes, findings);
        }
    }
    let mut after: Option<ApprovalId> = None;
    loop {
        let approvals = evidence.approvals(after.as_ref(), PAGE)?;
        let Some(last) = approvals.last() else {
            return Ok(());
        };
        after = Some(last.id.clone());
        for each in &approvals {
            check.approval(&stored(each), findings);
        }
    }
}

fn stored(evidence: &ApprovalEvidence) -> Stored<'_> {
    let votes = evidence.votes.iter().map(|row| StoredVote {
        person: &row.person,
        account: &row.account,
        choice: row.choice,
        at_us: row.at.as_microsecond(),
        request_digest: row.request_digest,
        view_digest: row.view_digest,
    });
    let redemption = evidence.redemption.as_ref();
    Stored {
        id: evidence.id.as_str(),
        approval: evidence.approval.as_ref().ok(),
        votes: votes.collect(),
        redemption: redemption.map(|row| StoredRedemption {
            caller: &row.caller,
            digest: row.digest,
            key: row.key.as_deref(),
            decision_id: &row.decision_id,
            at_us: row.at.as_microsecond(),
        }),
    }
}
