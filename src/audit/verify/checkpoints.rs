//! The signed checkpoints of a log, as its file holds them: read one after the other, and judged when the log has their size.

use std::fmt;
use std::io::{self, BufRead, Read as _};

use crate::audit::checkpoint::Checkpoint;
use crate::audit::note::{Note, NoteError, VerifierKey};
use crate::audit::tree::TreeHash;

use super::finding::{Finding, Findings, Kind};

/// What a signature line begins with.
const DASH: &str = "\u{2014} ";
/// No note has so many bytes.
const MAX_NOTE_BYTES: usize = 1 << 20;

/// A checkpoint that was read; whether it is right is not known yet.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) note: Note,
    pub(super) checkpoint: Checkpoint,
}

impl Claim {
    /// Reads one signed note.
    pub(super) fn read(text: &str) -> Option<Self> {
        let note = Note::parse(text).ok()?;
        let checkpoint = Checkpoint::parse(note.text()).ok()?;
        // What is parsed and written again is the same bytes, so every byte of it is covered.
        (note.to_string() == text).then_some(Self { note, checkpoint })
    }

    /// Who of `keys` signed it: one at least. Signatures of others beside them say nothing.
    pub(super) fn signers<'k>(
        &self,
        keys: &'k [VerifierKey],
    ) -> Result<Vec<&'k VerifierKey>, Kind> {
        match self.note.verified_by(keys) {
            Ok(signed) if signed.is_empty() => Err(Kind::CheckpointUnknownKey),
            Ok(signed) => Ok(signed),
            Err(NoteError::WrongSignature { .. }) => Err(Kind::CheckpointBadSignature),
            Err(_) => Err(Kind::CheckpointUnreadable),
        }
    }

    /// Whether somebody signed it whose key is not among `keys`.
    pub(super) fn has_others(&self, keys: &[VerifierKey]) -> bool {
        let mut signatures = self.note.signatures().iter();
        signatures.any(|each| {
            !keys
                .iter()
                .any(|key| key.name() == each.name() && key.key_id() == each.key_id())
        })
    }
}

/// The next note of a file, or what is wrong there.
#[derive(Debug)]
pub(super) enum Next {
    /// A checkpoint.
    Claim(Box<Claim>),
    /// A note that is no checkpoint, or bytes that are no note.
    Unreadable,
    /// The last note is cut off, as a crash leaves it.
    Torn,
    /// The file cannot be read any further.
    Failed(io::Error),
    /// There are no more.
    End,
}

/// Notes one after the other, each followed by an empty line. One is in memory at a time.
pub(super) struct NoteFile<'a> {
    source: Box<dyn BufRead + 'a>,
    is_over: bool,
}

impl fmt::Debug for NoteFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoteFile")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// What is next in a file of notes.
enum Block {
    /// A note, without the empty line behind it.
    Note(Vec<u8>),
    /// Lines that are no note: nobody can say where the next one begins.
    Other,
    /// The file ends before a note does, or where the next would begin.
    Rest(Vec<u8>),
}

impl<'a> NoteFile<'a> {
    pub(super) fn new(source: Box<dyn BufRead + 'a>) -> Self {
        Self {
            source,
            is_over: false,
        }
    }

    /// Reads on; `origin` is that of the log.
    pub(super) fn next(&mut self, origin: &str) -> Next {
        if self.is_over {
            return Next::End;
        }
        let block = self.block();
        self.is_over = !matches!(block, Ok(Block::Note(_)));
        match block {
            Ok(Block::Note(note)) => {
                let claim = str::from_utf8(&note).ok().and_then(Claim::read);
                claim.map_or(Next::Unreadable, |claim| Next::Claim(Box::new(claim)))
            }
            Ok(Block::Rest(rest)) if rest.is_empty() => Next::End,
            // What is cut off within a character is cut off behind the one before.
            Ok(Block::Rest(rest)) if is_torn(whole_characters(&rest), origin) => Next::Torn,
            Ok(Block::Other | Block::Rest(_)) => Next::Unreadable,
            Err(error) => Next::Failed(error),
        }
    }

    fn block(&mut self) -> io::Result<Block> {
        let mut bytes = Vec::new();
        // None before the empty line in front of the signatures.
        let mut signatures: Option<u32> = None;
        loop {
            let start = bytes.len();
            let room = u64::try_from(MAX_NOTE_BYTES.saturating_sub(start)).unwrap_or(0);
            let mut source = self.source.by_ref().take(room);
            source.read_until(b'\n', &mut bytes)?;
            let line = bytes.get(start..).unwrap_or_default();
            if !line.ends_with(b"\n") {
                let is_too_long = bytes.len() >= MAX_NOTE_BYTES;
                return Ok(if is_too_long {
                    Block::Other
                } else {
                    Block::Rest(bytes)
                });
            }
            let is_signature = line.starts_with(DASH.as_bytes());
            match (signatures, line == b"\n") {
                (None, false) => {}
                (None, true) => signatures = Some(0),
                (Some(count), false) if is_signature => signatures = count.checked_add(1),
                (Some(0), true) | (Some(_), false) => return Ok(Block::Other),
                (Some(_), true) => {
                    bytes.truncate(start);
                    return Ok(Block::Note(bytes));
                }
            }
        }
    }
}

fn whole_characters(bytes: &[u8]) -> &str {
    let chunk = bytes.utf8_chunks().next();
    match chunk {
        Some(chunk) if bytes.len().saturating_sub(chunk.valid().len()) < 4 => chunk.valid(),
        // Not a cut, but other bytes.
        _ => "\0",
    }
}

/// Whether `text` is the beginning of a note of the log `origin`, and not more than that.
fn is_torn(text: &str, origin: &str) -> bool {
    let mut lines = text.split('\n');
    let line = lines.next().unwrap_or_default();
    let is_origin = line == origin || (origin.starts_with(line) && text == line);
    let is_digits = |line: &str| line.bytes().all(|byte| byte.is_ascii_digit());
    let is_base64 = |line: &str| {
        let digits = line.trim_end_matches('=');
        digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    };
    // Others may sign beside the log, so the name may be any.
    let is_signature = |line: &str| {
        DASH.starts_with(line)
            || line.strip_prefix(DASH).is_some_and(|rest| {
                let (name, signature) = rest.split_once(' ').unwrap_or((rest, ""));
                !name.chars().any(char::is_control) && is_base64(signature)
            })
    };
    is_origin
        && lines.next().is_none_or(is_digits)
        && lines.next().is_none_or(is_base64)
        && lines.next().is_none_or(str::is_empty)
        && lines.all(is_signature)
}

/// Heads of the control log that somebody kept elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    claims: Vec<Claim>,
    seen: usize,
}

/// The heads that were kept elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadCounts {
    /// How many are of this log.
    pub count: u64,
    /// The size of the newest of them; 0 without any.
    pub newest: u64,
}

impl Heads {
    /// Reads a file of them, and keeps those of the log `origin`; without one, those of the log that is named first. What a crash cut
    /// off is a note, also where the writer went on behind it: reading goes on at the next line that is the origin.
    pub(super) fn read(text: &str, origin: Option<&str>, findings: &mut Findings) -> Self {
        let first = text.lines().next().unwrap_or_default();
        let origin = origin.filter(|origin| !origin.is_empty()).unwrap_or(first);
        let mut heads = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let note = split_note(rest);
            let claim = note.and_then(|(note, behind)| Some((Claim::read(note)?, behind)));
            if let Some((claim, behind)) = claim {
                rest = behind;
                if claim.checkpoint.origin() == origin {
                    heads.claims.push(claim);
                }
                continue;
            }
            let line = format!("\n{origin}\n");
            let end = rest.find(&line).and_then(|at| at.checked_add(1));
            let (junk, behind) = end
                .and_then(|at| rest.split_at_checked(at))
                .unwrap_or((rest, ""));
            rest = behind;
            findings.add(if is_torn_head(junk, origin) {
                let says = "a head that was kept elsewhere is cut off, as a crash leaves it";
                Finding::new(Kind::TornTail, "heads", says)
            } else {
                let says = "a head that was kept elsewhere is no signed checkpoint";
                Finding::new(Kind::HeadUnreadable, "heads", says)
            });
        }
        heads.claims.sort_by_key(|claim| claim.checkpoint.size());
        heads
    }

    /// How many there are, and how far they go.
    pub(super) fn counts(&self) -> HeadCounts {
        HeadCounts {
            count: u64::try_from(self.claims.len()).unwrap_or(u64::MAX),
            newest: self
                .claims
                .last()
                .map_or(0, |claim| claim.checkpoint.size()),
        }
    }

    /// Judges those of `size`, at which the log has `root`.
    pub(super) fn reach(&mut self, log: &LogAt<'_>, keys: &[VerifierKey], findings: &mut Findings) {
        while let Some(claim) = self.claims.get(self.seen) {
            let size = claim.checkpoint.size();
            if size > log.size {
                return;
            }
            self.seen = self.seen.saturating_add(1);
            let says =
                |what: &str| format!("the head of {size} records that was kept elsewhere {what}");
            let is_signed = claim
                .note
                .verified_by(keys)
                .is_ok_and(|signed| !signed.is_empty());
            if claim.checkpoint.origin() != log.origin || !is_signed {
                let says = says("is signed by no key of the log, or is of another log");
                findings.add(Finding::new(Kind::HeadUntrusted, "heads", says));
            } else if size == log.size && *claim.checkpoint.root() != log.root {
                let says = says("has another root than the log");
                findings.add(Finding::new(Kind::HeadDiffers, log.label, says).at(size));
            }
        }
    }

    /// Judges those that a log of `size` records, called `label`, does not reach.
    pub(super) fn end(&mut self, label: &str, size: u64, findings: &mut Findings) {
        for claim in self.claims.get(self.seen..).unwrap_or_default() {
            let kept = claim.checkpoint.size();
            let says =
                format!("a head of {kept} records was kept elsewhere, and the log has {size}");
            findings.add(Finding::new(Kind::HeadBeyondLog, label, says).at(size));
        }
        self.seen = self.claims.len();
    }

    /// The size of the next one that was not judged.
    pub(super) fn next_size(&self) -> Option<u64> {
        self.claims
            .get(self.seen)
            .map(|claim| claim.checkpoint.size())
    }
}

/// The first note of `text` without its empty line, and what comes behind both.
fn split_note(text: &str) -> Option<(&str, &str)> {
    let (head, _) = text.split_once("\n\n")?;
    let signatures = text.get(head.len().checked_add(2)?..)?;
    let (lines, rest) = signatures.split_once("\n\n")?;
    let length = text.len().checked_sub(rest.len())?.checked_sub(1)?;
    // Signature lines only: otherwise this is no note, and nobody can say where the next one begins.
    let is_signed = lines.split('\n').all(|line| line.starts_with(DASH));
    is_signed.then(|| Some((text.get(..length)?, rest)))?
}

/// Whether `text` is a head that a crash cut off: alone, or with the next one behind it in the same line.
fn is_torn_head(text: &str, origin: &str) -> bool {
    let mut glued = text.rmatch_indices(origin).map(|(at, _)| at);
    is_torn(text, origin)
        || glued.any(|at| {
            text.get(..at)
                .is_some_and(|torn| !torn.is_empty() && is_torn(torn, origin))
        })
}

/// A log at a size.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogAt<'a> {
    pub(super) label: &'a str,
    pub(super) origin: &'a str,
    pub(super) size: u64,
    pub(super) root: TreeHash,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::note::SignerKey;
    use crate::audit::tree::TreeHash;

    const ORIGIN: &str = "c/control";

    fn note(origin: &str, size: u64) -> String {
        let signer = SignerKey::from_seed(origin, &[7; 32]).unwrap();
        let checkpoint = Checkpoint::new(origin, size, TreeHash::from([3; 32])).unwrap();
        format!("{}\n", checkpoint.signed(&[&signer]).unwrap())
    }

    fn heads(text: &str) -> (HeadCounts, Vec<Kind>) {
        let mut findings = Findings::default();
        let heads = Heads::read(text, Some(ORIGIN), &mut findings);
        let kinds = findings.kept().iter().map(|each| each.kind).collect();
        (heads.counts(), kinds)
    }

    #[test]
    fn a_torn_head_is_passed_over() {
        let (one, two, three) = (note(ORIGIN, 1), note(ORIGIN, 2), note(ORIGIN, 3));
        let counts = |count, newest| HeadCounts { count, newest };
        for at in 1..two.len() {
            let Some(torn) = two.get(..at) else {
                continue;
            };
            let (found, kinds) = heads(&format!("{one}{torn}"));
            assert_eq!((found, kinds), (counts(1, 1), vec![Kind::TornTail]), "{at}");
            // The next one may be lost with it, if it is in the same line.
            let (found, kinds) = heads(&format!("{one}{torn}{three}{three}"));
            assert_eq!(found.newest, 3, "{at}");
            assert!(
                kinds.iter().all(|kind| *kind == Kind::TornTail),
                "{at} {kinds:?}"
            );
        }
    }

    #[test]
    fn heads_of_other_logs_do_not_count() {
        let (found, kinds) = heads(&note("other/control", 9));
        assert_eq!((found, kinds), (HeadCounts::default(), Vec::new()));
        let (_, kinds) = heads(&format!("{ORIGIN}\nnonsense\n\n"));
        assert_eq!(kinds, vec![Kind::HeadUnreadable]);
    }

    #[test]
    fn notes_are_read_one_after_the_other() {
        let text = [note(ORIGIN, 1), note(ORIGIN, 2)].concat();
        for at in 0..=text.len() {
            let bytes = text.as_bytes().get(..at).unwrap();
            let mut file = NoteFile::new(Box::new(bytes));
            let first = note(ORIGIN, 1).len();
            for _ in 0..at / first {
                assert!(matches!(file.next(ORIGIN), Next::Claim(_)), "{at}");
            }
            match file.next(ORIGIN) {
                Next::End => assert_eq!(at % first, 0),
                Next::Torn => assert_ne!(at % first, 0),
                other @ (Next::Claim(_) | Next::Unreadable | Next::Failed(_)) => {
                    panic!("{at}: {other:?}")
                }
            }
        }
    }
}
