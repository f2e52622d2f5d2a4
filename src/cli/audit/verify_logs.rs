//! Reads the logs of a source through, record by record.

use std::ops::ControlFlow;

use crate::audit::tree::{BUNDLE_LEAVES, TreeHash, bundle_hash, leaf_hash};
use crate::audit::verify::{
    ControlCheck, ControlFacts, Coverage, DecisionCheck, Expected, Finding, Findings, FolderTexts,
    Kind, LogEnd, Outside, SelectedCheck, SelectedTexts, Speaker,
};
use crate::cli::output::say;
use crate::storage::log_folder::FolderError;

use super::verify_source::{CONTROL, DECISION, OpenLog, Opened, SELECTED, Source, damage};

/// After so many records a long log says how far it is.
const PROGRESS: u64 = 2_000_000;
/// What a file of selected records begins with.
const SELECTION_MAGIC: [u8; 8] = *b"CSSEL\x01\0\0";

impl OpenLog {
    fn texts(&self) -> anyhow::Result<FolderTexts<'_>> {
        Ok(FolderTexts {
            key_lines: self.reader.key_lines(),
            checkpoints: Box::new(self.checkpoints()?),
        })
    }

    /// The hash that is kept for `bundle`.
    fn kept_hash(&self, bundle: u64) -> Option<TreeHash> {
        let (hashes, _) = self.hashes.as_chunks::<{ TreeHash::BYTES }>();
        let at = usize::try_from(bundle).ok()?;
        hashes.get(at).copied().map(TreeHash::from)
    }

    /// Shows every record to `show`, which answers its hash, and compares each bundle with the hash that is kept for it.
    fn each_record(
        &self,
        findings: &mut Findings,
        mut show: impl FnMut(&[u8], &mut Findings) -> TreeHash,
    ) -> anyhow::Result<()> {
        let first = self.reader.first_index();
        let mut hashes = Vec::new();
        let shown = self
            .reader
            .for_each_bundle(first, u64::MAX, |index, records| {
                hashes.clear();
                hashes.extend(records.iter().map(|record| show(record, findings)));
                let is_whole = u64::try_from(hashes.len()) == Ok(BUNDLE_LEAVES);
                let kept = self.kept_hash(index / BUNDLE_LEAVES);
                if is_whole && kept != Some(bundle_hash(&hashes)) {
                    let says = "the records of a bundle do not have the hash that is kept for it";
                    findings
                        .add(Finding::new(Kind::BundleHashDiffers, &self.label, says).at(index));
                }
                if self.tells_progress && index > 0 && index.is_multiple_of(PROGRESS) {
                    say(&format!(
                        "{}: {index} of {} records",
                        self.label,
                        self.reader.size()
                    ));
                }
                ControlFlow::<()>::Continue(())
            });
        match shown {
            Ok(_) => Ok(()),
            Err(FolderError::Pruned { .. }) => {
                let says = "records are missing that no record says were removed";
                findings.add(Finding::new(Kind::RecordsMissing, &self.label, says));
                Ok(())
            }
            Err(error) => {
                let says = damage(error)?;
                findings.add(Finding::new(Kind::Damaged, &self.label, says));
                Ok(())
            }
        }
    }
}

/// A copy of the control log.
#[derive(Debug)]
pub(super) struct Control {
    log: OpenLog,
}

impl Control {
    /// The copy in `source`, if there is one that can be opened.
    pub(super) fn open(source: &Source, findings: &mut Findings) -> anyhow::Result<Option<Self>> {
        if !source.has_control() {
            return Ok(None);
        }
        Ok(match source.log(CONTROL)? {
            Opened::Log(log) => Some(Self { log: *log }),
            Opened::Nothing => None,
            Opened::Damaged(says) => {
                findings.add(Finding::new(Kind::Damaged, &source.label(CONTROL), says));
                None
            }
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.log.reader.size()
    }

    /// The file `key`.
    pub(super) fn key_lines(&self) -> &str {
        self.log.reader.key_lines()
    }

    pub(super) fn label(&self) -> &str {
        &self.log.label
    }

    /// The record `index`; none if it is not there, or cannot be read.
    pub(super) fn record(&self, index: u64) -> Option<Vec<u8>> {
        self.log.reader.record(index).ok().flatten()
    }
}

/// Reads a copy of the control log; without `outside` only the log itself, not what its records say. `others` are shorter copies.
pub(super) fn read_control(
    control: &Control,
    outside: Option<Outside>,
    others: &[(String, LogEnd)],
    findings: &mut Findings,
) -> anyhow::Result<(ControlFacts, LogEnd, Coverage)> {
    let log = &control.log;
    if log.reader.first_index() > 0 {
        let says = "the first records of the control log are missing, which are never removed";
        findings.add(Finding::new(Kind::RecordsMissing, &log.label, says));
    }
    let first = control.record(log.reader.first_index()).unwrap_or_default();
    let expected = others.iter().map(|(label, end)| Expected {
        size: end.size,
        root: end.root,
        differs: Kind::MirrorsDiffer,
        beyond: Kind::MirrorsDiffer,
        by: Speaker::Copy(label.clone()),
    });
    let mut check = ControlCheck::new(&log.label, &first, log.texts()?, expected.collect());
    for (_, end) in others {
        check = check.beside(end);
    }
    let mut check = match outside {
        Some(outside) => check.judged_by(outside),
        None => check.as_copy(),
    };
    check.begin(findings);
    log.each_record(findings, |record, findings| {
        check.push(record, findings);
        leaf_hash(record)
    })?;
    Ok(check.end(findings))
}

/// A decision log that was read, and what was found.
#[derive(Debug)]
pub(super) struct DecisionReading {
    /// The source it is in, by its number.
    pub(super) source: usize,
    pub(super) incarnation: String,
    pub(super) findings: Findings,
    /// None if the log cannot be opened, or is none.
    pub(super) coverage: Option<Coverage>,
}

impl DecisionReading {
    /// Reads the log of `incarnation` in `source`; a new one came while the others were read.
    pub(super) fn read(
        (number, source): (usize, &Source),
        (incarnation, is_new): (&str, bool),
        control: &mut ControlFacts,
    ) -> anyhow::Result<Self> {
        let mut findings = Findings::default();
        let name = format!("{DECISION}/{incarnation}");
        let coverage = match source.log(&name)? {
            Opened::Log(log) => {
                let names = (incarnation, is_new);
                Some(read_decision_log(&log, names, control, &mut findings)?)
            }
            Opened::Nothing => None,
            Opened::Damaged(says) => {
                let label = source.label(&name);
                findings.add(Finding::new(Kind::Damaged, &label, says));
                None
            }
        };
        Ok(Self {
            source: number,
            incarnation: incarnation.to_owned(),
            findings,
            coverage,
        })
    }

    /// Whether a control log that was read later may say otherwise.
    pub(super) fn is_doubtful(&self) -> bool {
        self.findings.has(&[
            Kind::LogUnregistered,
            Kind::LogNew,
            Kind::RecordsMissing,
            Kind::GrantUnbacked,
        ])
    }
}

fn read_decision_log(
    log: &OpenLog,
    (incarnation, is_new): (&str, bool),
    control: &mut ControlFacts,
    findings: &mut Findings,
) -> anyhow::Result<Coverage> {
    let check = DecisionCheck::new(&log.label, incarnation, log.texts()?, control, findings);
    let mut check = if is_new { check.as_new() } else { check };
    check.begin(findings);
    for bundle in 0..log.reader.first_index() / BUNDLE_LEAVES {
        match log.kept_hash(bundle) {
            Some(hash) => check.skip_bundle(hash, findings),
            None => break,
        }
    }
    let approvals = &mut control.approvals;
    log.each_record(findings, |record, findings| {
        check.push(record, approvals, findings)
    })?;
    Ok(check.end(control, findings))
}

/// Reads the selected records of `source`.
pub(super) fn read_selections(
    source: &Source,
    control: &mut ControlFacts,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    for incarnation in source.selections()? {
        let label = source.label(&format!("{SELECTED}/{incarnation}"));
        let text = |name| -> anyhow::Result<String> {
            let bytes = source.selected(&incarnation, name)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (key_lines, checkpoint) = (text("key")?, text("checkpoint")?);
        let texts = SelectedTexts {
            key_lines: &key_lines,
            checkpoint: &checkpoint,
        };
        let mut check = SelectedCheck::new(&label, &incarnation, texts, control, findings);
        for part in 1..=source.selected_parts(&incarnation)? {
            let bytes = source.selected(&incarnation, &format!("records-{part:06}"))?;
            let approvals = &mut control.approvals;
            let read = bytes.and_then(|bytes| {
                let mut rest = bytes.strip_prefix(&SELECTION_MAGIC)?;
                while !rest.is_empty() {
                    let (record, proof) = next_selected(&mut rest)?;
                    check.record(record, &proof, approvals, findings);
                }
                Some(())
            });
            if read.is_none() {
                let says = format!("the file `records-{part:06}` is none of selected records");
                findings.add(Finding::new(Kind::Damaged, &label, says));
            }
        }
        check.end(findings);
    }
    Ok(())
}

/// A leaf with its index in front.
type PlacedLeaf<'b> = (u64, &'b [u8]);

/// What comes next in a file of selected records: index, leaf and proof.
fn next_selected<'b>(rest: &mut &'b [u8]) -> Option<(PlacedLeaf<'b>, Vec<TreeHash>)> {
    let (index, behind) = rest.split_first_chunk::<8>()?;
    let (length, behind) = behind.split_first_chunk::<4>()?;
    let (hashes, behind) = behind.split_first_chunk::<4>()?;
    let size = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
    let (leaf, behind) = behind.split_at_checked(size(length)?)?;
    let bytes = size(hashes)?.checked_mul(TreeHash::BYTES)?;
    let (proof, behind) = behind.split_at_checked(bytes)?;
    let (proof, _) = proof.as_chunks::<{ TreeHash::BYTES }>();
    *rest = behind;
    let proof = proof.iter().copied().map(TreeHash::from).collect();
    Some(((u64::from_le_bytes(*index), leaf), proof))
}
