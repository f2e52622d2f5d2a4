//! Follows a decision log: counts what it holds, and looks for the grant behind every decision that rests on one.

use std::sync::Arc;

use uuid::Uuid;

use crate::audit::note::VerifierKey;

use super::approvals::Approvals;
use super::control::{ControlFacts, FolderTexts};
use super::finding::{Finding, Findings, Kind};
use super::keys::{KeyRing, read_key_lines};
use super::log_check::LogCheck;
use super::replicas::{Ending, Place, Registered};
use super::report::{Coverage, Span};
use super::wire::{DecisionLook, RecordLook, What};

use crate::audit::tree::TreeHash;

/// A decision this much older than the control log's last record rests on a grant that must be there: clocks of replicas differ.
const SLACK_US: i64 = 300 * 1_000_000;

/// What is known of a decision log before it is read.
#[derive(Clone, Debug, Default)]
struct Known {
    ending: Option<Ending>,
    anchored: u64,
    pruned_below: u64,
}

/// Follows a decision log.
#[derive(Debug)]
pub struct DecisionCheck<'a> {
    label: String,
    log: LogCheck<'a>,
    pub(super) keys: KeyRing,
    incarnation: String,
    known: Known,
    /// Whether its folder came while the logs were read.
    is_new: bool,
    control_us: Option<i64>,
    /// When the last record was written that the log's own key signed.
    signed_us: Option<i64>,
    span: Span,
    first: u64,
    decisions: u64,
    refused: u64,
    lost: u64,
}

impl<'a> DecisionCheck<'a> {
    /// Follows the decision log of `incarnation`, called `label` in findings, by what the control log says of it.
    pub fn new(
        label: &str,
        incarnation: &str,
        texts: FolderTexts<'a>,
        control: &mut ControlFacts,
        findings: &mut Findings,
    ) -> Self {
        let in_file = read_key_lines(texts.key_lines);
        let mut replica = control.replicas.get_mut(incarnation);
        let known = replica.as_deref().map(known).unwrap_or_default();
        let expected: Arc<_> = replica
            .as_deref_mut()
            .map(Registered::expected)
            .unwrap_or_default();
        let registered = replica.and_then(|replica| {
            replica.is_seen = true;
            replica.key.clone()
        });
        let keys = registered_key(label, registered, in_file, findings);
        let origin = match control.cluster.as_str() {
            "" => keys
                .all()
                .first()
                .map(|key| key.name().to_owned())
                .unwrap_or_default(),
            cluster => format!("{cluster}/decision/{incarnation}"),
        };
        Self {
            label: label.to_owned(),
            log: LogCheck::new(label, &origin, texts.checkpoints, expected),
            keys,
            incarnation: incarnation.to_owned(),
            known,
            is_new: false,
            signed_us: None,
            control_us: control.is_there.then_some(control.last_us),
            span: Span::default(),
            first: 0,
            decisions: 0,
            refused: 0,
            lost: 0,
        }
    }

    /// The log came while the others were read: that the control log does not know it yet is no finding.
    #[must_use]
    pub fn as_new(mut self) -> Self {
        self.is_new = true;
        self
    }

    /// Comes before the first record.
    pub fn begin(&mut self, findings: &mut Findings) {
        self.log.begin(&self.keys, findings);
    }

    /// Takes the hash of a bundle whose records were pruned.
    pub fn skip_bundle(&mut self, bundle: TreeHash, findings: &mut Findings) {
        self.log.skip_bundle(bundle, &self.keys, findings);
        self.first = self.log.size();
    }

    /// Takes the next record, and answers its hash.
    pub fn push(
        &mut self,
        leaf: &[u8],
        approvals: &mut Approvals,
        findings: &mut Findings,
    ) -> TreeHash {
        let index = self.log.size();
        match RecordLook::read(leaf) {
            Ok(look) => self.read(index, &look, approvals, findings),
            Err(_) => findings.add(self.at(
                index,
                Kind::RecordUnreadable,
                "these bytes are not a record",
            )),
        }
        let hash = self.log.push(leaf, &self.keys, findings);
        if self.log.signed() == self.log.size() {
            self.signed_us = self.span.last_us;
        }
        hash
    }

    fn at(&self, index: u64, kind: Kind, says: impl Into<String>) -> Finding {
        let log = &self.label;
        Place { log, index }.finding(kind, says)
    }

    /// Looks at the record `index`.
    pub(super) fn read(
        &mut self,
        index: u64,
        look: &RecordLook<'_>,
        approvals: &mut Approvals,
        findings: &mut Findings,
    ) {
        self.span.see(look.at_us);
        match &look.what {
            What::Decision(decision) => {
                self.decisions = self.decisions.saturating_add(1);
                if decision.is_granted {
                    self.granted((index, look.at_us), decision, approvals, findings);
                } else if decision.is_allow() && decision.has_rules {
                    let says = "a request was allowed although the policies ask for approval, and no grant was spent";
                    findings.add(self.at(index, Kind::ApprovalBypassed, says));
                }
            }
            What::Gap(gap) => {
                self.lost = self.lost.saturating_add(gap.lost);
                let says = format!(
                    "{} decisions were answered and are not in the log",
                    gap.lost
                );
                findings.add(self.at(index, Kind::Gap, says));
            }
            What::Refused => self.refused = self.refused.saturating_add(1),
            What::Control => {
                let says = "a record of the control log is in a decision log";
                findings.add(self.at(index, Kind::RecordMisplaced, says));
            }
            What::Newer => {
                let says = "the record was written by a newer version";
                findings.add(self.at(index, Kind::NewerRecord, says));
            }
        }
    }

    /// A decision rests on a grant: it was spent, for this request, by this decision.
    fn granted(
        &self,
        (index, at_us): (u64, i64),
        decision: &DecisionLook<'_>,
        approvals: &mut Approvals,
        findings: &mut Findings,
    ) {
        let approval = String::from_utf8_lossy(decision.approval).into_owned();
        let finding = |kind, says: &str| self.at(index, kind, says).of(&approval);
        if !decision.is_allow() {
            findings.add(finding(
                Kind::GrantNotAllow,
                "a decision rests on a grant and does not allow",
            ));
        }
        let Some(spent) = approvals.spent(&approval) else {
            if self.may_be_ahead(index, at_us) {
                let says =
                    "a decision rests on a grant whose spending is not in the control log yet";
                findings.add(finding(Kind::GrantAhead, says));
            } else if self.control_us.is_some() {
                findings.add(finding(
                    Kind::GrantUnbacked,
                    "a decision rests on a grant that nobody spent",
                ));
            }
            return;
        };
        spent.has_decision = true;
        if spent.decision_id != decision.id {
            let id = Uuid::from_slice(&spent.decision_id).unwrap_or_default();
            let says = format!("a decision rests on a grant that another decision spent: {id}");
            findings.add(finding(Kind::GrantUnbacked, &says));
        }
        if spent.digest != decision.digest {
            let says = "a decision rests on a grant of another request";
            findings.add(finding(Kind::GrantOtherRequest, says));
        }
    }

    /// Whether the record may be newer than everything that was read of the control log.
    fn may_be_ahead(&self, index: u64, at_us: i64) -> bool {
        let is_recent = |control: i64| at_us > control.saturating_sub(SLACK_US);
        index >= self.known.anchored && self.control_us.is_some_and(is_recent)
    }

    /// The log's name.
    pub(super) fn origin(&self) -> &str {
        self.log.now_origin()
    }

    /// How many records were taken.
    pub fn size(&self) -> u64 {
        self.log.size()
    }

    /// There are no more records.
    pub fn end(self, control: &mut ControlFacts, findings: &mut Findings) -> Coverage {
        let Self {
            label,
            known,
            first,
            ..
        } = self;
        if let Some(replica) = control.replicas.get_mut(&self.incarnation) {
            replica.signed_us = replica.signed_us.max(self.signed_us);
        }
        let size = self.log.size();
        let end = self.log.end(findings);
        let finding = |kind, says: String| Finding::new(kind, &label, says);
        if first > known.pruned_below {
            let says = format!(
                "the records below {first} are gone, and no record says that they were removed"
            );
            findings.add(finding(Kind::RecordsMissing, says));
        } else if first > 0 {
            findings.add(finding(
                Kind::Pruned,
                format!("the records below {first} were removed"),
            ));
        }
        if let Some(Ending::Stopped { size: ended, .. }) = known.ending
            && ended < size
        {
            let says = format!("the log ended with {ended} records, and has {size}");
            findings.add(finding(Kind::RecordsAfterEnd, says).at(ended));
        }
        if let Some(Ending::Stopped { accepted, lost, .. }) = known.ending
            && first == 0
        {
            let kept = accepted.checked_sub(lost);
            let recorded = self.decisions.saturating_add(self.refused);
            if kept != Some(recorded) || lost != self.lost {
                let says = format!(
                    "{accepted} calls were decided or refused and {lost} declared lost, but the log holds {recorded} and declares {} lost",
                    self.lost
                );
                findings.add(finding(Kind::CountsDiffer, says));
            }
        }
        tell_ending(&label, known.ending, (size, end.signed), findings);
        if known.ending.is_none() && control.is_there {
            tell_unregistered(&label, size, self.is_new, findings);
        }
        self.span.tell(&label, findings);
        let mut coverage = Coverage::of(&label, &end, &self.span);
        coverage.first = first;
        coverage.decisions = self.decisions;
        coverage.lost = self.lost;
        coverage.tell_tail(findings);
        coverage
    }
}

fn known(replica: &Registered) -> Known {
    Known {
        ending: Some(replica.ending),
        anchored: replica.anchored(),
        pruned_below: replica.pruned_below,
    }
}

/// The key that signs the log: the registered one, or the file's where there is no control log to register it.
fn registered_key(
    label: &str,
    registered: Option<VerifierKey>,
    in_file: Option<Vec<VerifierKey>>,
    findings: &mut Findings,
) -> KeyRing {
    let only = in_file.filter(|keys| keys.len() == 1);
    let only = only.and_then(|keys| keys.into_iter().next());
    if only.is_none()
        || registered
            .as_ref()
            .is_some_and(|key| Some(key) != only.as_ref())
    {
        let says = "the file with the log's key holds another key than the control log says";
        findings.add(Finding::new(Kind::KeyFileDiffers, label, says));
    }
    registered.or(only).map(KeyRing::of).unwrap_or_default()
}

fn tell_ending(
    label: &str,
    ending: Option<Ending>,
    (size, signed): (u64, u64),
    findings: &mut Findings,
) {
    let mut tell = |kind, says: String| findings.add(Finding::new(kind, label, says));
    match ending {
        Some(Ending::Running) => tell(Kind::ReplicaRunning, "the replica has not ended".to_owned()),
        Some(Ending::Lost {
            size: kept,
            reserved,
        }) => {
            let most = reserved.saturating_sub(size);
            let says = format!("the replica was lost, and at most {most} decisions with it");
            tell(Kind::ReplicaLost, says);
            if kept < size {
                let says = format!(
                    "the control log knew of {kept} records when the replica was lost, and the log holds {size}"
                );
                tell(Kind::LostLonger, says);
            }
            let unsigned = size.saturating_sub(signed);
            if unsigned > 0 {
                let says = format!(
                    "the replica was lost before its own key signed the last {unsigned} records: whoever registered the loss may have written them"
                );
                tell(Kind::LostUnsigned, says);
            }
        }
        Some(Ending::Stopped { .. }) | None => {}
    }
}

fn tell_unregistered(label: &str, size: u64, is_new: bool, findings: &mut Findings) {
    let finding = if size == 0 {
        let says = "the log is empty, and the control log does not know of it yet";
        Finding::new(Kind::ReplicaRunning, label, says)
    } else if is_new {
        let says =
            "the log came while the others were read, and the control log does not know of it yet";
        Finding::new(Kind::LogNew, label, says)
    } else {
        let says = "the control log knows nothing of this log";
        Finding::new(Kind::LogUnregistered, label, says)
    };
    findings.add(finding);
}
