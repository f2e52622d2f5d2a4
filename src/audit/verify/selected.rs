//! Judges selected records of a decision log: each is proved to be in the log that the newest signed checkpoint is of.

use crate::audit::checkpoint::Checkpoint;
use crate::audit::proof::verify_inclusion;
use crate::audit::tree::{TreeHash, leaf_hash};

use super::approvals::Approvals;
use super::checkpoints::Claim;
use super::control::{ControlFacts, FolderTexts};
use super::decisions::DecisionCheck;
use super::finding::{Finding, Findings, Kind};
use super::log_check::Expected;
use super::replicas::Ending;
use super::wire::RecordLook;

/// What a selection holds beside its records.
#[derive(Clone, Copy, Debug)]
pub struct SelectedTexts<'a> {
    /// The file `key`.
    pub key_lines: &'a str,
    /// The file `checkpoint`: one signed note.
    pub checkpoint: &'a str,
}

/// Judges the selected records of one log.
#[derive(Debug)]
pub struct SelectedCheck<'a> {
    label: String,
    incarnation: String,
    check: DecisionCheck<'a>,
    /// None if it is wrong, which was found.
    checkpoint: Option<Checkpoint>,
    last: Option<u64>,
    records: u64,
}

impl<'a> SelectedCheck<'a> {
    /// Judges the log of `incarnation`, called `label` in findings, by what the control log says of it.
    pub fn new(
        label: &str,
        incarnation: &str,
        texts: SelectedTexts<'a>,
        control: &mut ControlFacts,
        findings: &mut Findings,
    ) -> Self {
        let known = control.replicas.get(incarnation);
        let was_seen = known.is_some_and(|replica| replica.is_seen);
        if known.is_none() && control.is_there {
            let says = "the control log knows nothing of this log";
            findings.add(Finding::new(Kind::LogUnregistered, label, says));
        }
        let folder = FolderTexts {
            key_lines: texts.key_lines,
            checkpoints: Box::new([].as_slice()),
        };
        let check = DecisionCheck::new(label, incarnation, folder, control, findings);
        let mut selected = Self {
            label: label.to_owned(),
            incarnation: incarnation.to_owned(),
            check,
            checkpoint: None,
            last: None,
            records: 0,
        };
        match selected.read_checkpoint(texts.checkpoint) {
            Ok(checkpoint) => {
                selected.compare(&checkpoint, control, findings);
                selected.checkpoint = Some(checkpoint);
            }
            Err(kind) => {
                let says = "the checkpoint of the selected records is none of the log's";
                findings.add(Finding::new(kind, label, says));
            }
        }
        if let Some(replica) = control.replicas.get_mut(incarnation) {
            replica.is_seen = was_seen;
            replica.is_selected = true;
        }
        selected
    }

    fn read_checkpoint(&self, text: &str) -> Result<Checkpoint, Kind> {
        let claim = Claim::read(text).ok_or(Kind::CheckpointUnreadable)?;
        let size = claim.checkpoint.size();
        if claim.checkpoint.origin() != self.check.origin() {
            return Err(Kind::CheckpointOtherOrigin);
        }
        claim.signers(self.check.keys.for_size(size))?;
        Ok(claim.checkpoint)
    }

    /// Compares with what the control log says of the same size, and of the log's end.
    fn compare(
        &self,
        checkpoint: &Checkpoint,
        control: &mut ControlFacts,
        findings: &mut Findings,
    ) {
        let Some(replica) = control.replicas.get_mut(&self.incarnation) else {
            return;
        };
        let size = checkpoint.size();
        let differs = |each: &&Expected| each.size == size && each.root != *checkpoint.root();
        if let Some(expected) = replica.expected().iter().find(differs) {
            let says = format!(
                "the first {size} records do not have the root that {}",
                expected.by
            );
            findings.add(Finding::new(expected.differs, &self.label, says).at(size));
        }
        if let Ending::Stopped { size: ended, .. } = replica.ending
            && ended < size
        {
            let says = format!("the log ended with {ended} records, and has {size}");
            findings.add(Finding::new(Kind::RecordsAfterEnd, &self.label, says).at(ended));
        }
    }

    /// Takes the record `index` with the proof that it is in the log.
    pub fn record(
        &mut self,
        (index, leaf): (u64, &[u8]),
        proof: &[TreeHash],
        approvals: &mut Approvals,
        findings: &mut Findings,
    ) {
        let finding = |kind, says: &str| Finding::new(kind, &self.label, says).at(index);
        if self.last.is_some_and(|last| last >= index) {
            let says = "the selected records do not stand in the order of the log";
            findings.add(finding(Kind::ProofWrong, says));
        }
        self.last = Some(index);
        self.records = self.records.saturating_add(1);
        if let Some(checkpoint) = &self.checkpoint {
            let (size, root) = (checkpoint.size(), checkpoint.root());
            if verify_inclusion(&leaf_hash(leaf), index, size, proof, root).is_err() {
                let says = "nothing proves that this record is in the log";
                findings.add(finding(Kind::ProofWrong, says));
            }
        }
        if let Ok(look) = RecordLook::read(leaf) {
            self.check.read(index, &look, approvals, findings);
        } else {
            let says = "these bytes are not a record";
            findings.add(finding(Kind::RecordUnreadable, says));
        }
    }

    /// There are no more records.
    pub fn end(self, findings: &mut Findings) {
        let size = self.checkpoint.as_ref().map_or(0, Checkpoint::size);
        let says = format!(
            "{} of the log's {size} records were selected; only they were verified",
            self.records
        );
        findings.add(Finding::new(Kind::OnlySelected, &self.label, says));
    }
}
