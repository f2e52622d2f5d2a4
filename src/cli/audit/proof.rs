//! Checks that a record is in its log, here and not where it came from.

use std::path::Path;

use anyhow::{Context, anyhow, bail};

use crate::audit::checkpoint::Checkpoint;
use crate::audit::note::VerifierKey;
use crate::audit::proof::verify_inclusion;
use crate::audit::tree::{TreeHash, leaf_hash};
use crate::usecase::audit_reading::{CONTROL, Inclusion, LogInfo, LoggedRecord};

/// That a record is in its log.
#[derive(Clone, Debug)]
pub(super) struct Proved {
    pub(super) log: String,
    pub(super) leaf: TreeHash,
    pub(super) origin: String,
    pub(super) size: u64,
    pub(super) root: TreeHash,
    /// Whether the checkpoint's key was given by the user.
    pub(super) is_pinned: bool,
}

/// The keys given with `--key`: each the text of a key, or a file with keys, one a line.
pub(super) fn read_keys(given: &[String]) -> anyhow::Result<Vec<VerifierKey>> {
    let mut keys = Vec::new();
    for text in given {
        if let Ok(key) = text.parse() {
            keys.push(key);
            continue;
        }
        let lines = std::fs::read_to_string(Path::new(text))
            .with_context(|| format!("`--key {text}` is neither a key nor a file with keys"))?;
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let key = line.trim().parse();
            keys.push(key.with_context(|| format!("a line of `{text}` is no key"))?);
        }
    }
    Ok(keys)
}

/// Checks `proof` that `record` is in the log `info`. A key in `pinned` that has the log's name replaces those that are told.
///
/// # Errors
/// What does not fit: then the record is not to be believed.
pub(super) fn check(
    record: &LoggedRecord,
    proof: &Inclusion,
    info: &LogInfo,
    pinned: &[VerifierKey],
) -> anyhow::Result<Proved> {
    let place = if record.log == CONTROL {
        "/control".to_owned()
    } else {
        format!("/decision/{}", record.log)
    };
    if !info.origin.ends_with(&place) {
        bail!("log `{}` says that it is `{}`", record.log, info.origin);
    }
    if proof.leaf != record.leaf {
        bail!("the proof is of another record");
    }
    let mut keys: Vec<VerifierKey> = pinned.to_vec();
    keys.retain(|key| key.name() == info.origin);
    let is_pinned = !keys.is_empty();
    if !is_pinned {
        let told: Result<_, _> = info.keys.iter().map(|key| key.parse()).collect();
        keys = told.map_err(|error| anyhow!("a key of log `{}`: {error}", record.log))?;
    }
    let note = proof.checkpoint.as_ref();
    let note = note.context("there is no signed checkpoint with the proof")?;
    let checkpoint = Checkpoint::open(note, &info.origin, &keys)?;
    if checkpoint.size() != proof.size {
        bail!("the proof is for another size than the checkpoint's");
    }
    let leaf = leaf_hash(&record.leaf);
    let (size, root) = (proof.size, *checkpoint.root());
    verify_inclusion(&leaf, record.index, size, &proof.hashes, &root)?;
    Ok(Proved {
        log: record.log.clone(),
        leaf,
        origin: info.origin.clone(),
        size,
        root,
        is_pinned,
    })
}

#[cfg(test)]
mod tests {
    use crate::audit::note::SignerKey;

    use super::*;

    fn parts() -> (LoggedRecord, Inclusion, LogInfo) {
        let signer = SignerKey::from_seed("acme/control", &[7; 32]).unwrap();
        let leaf = b"a leaf".to_vec();
        let checkpoint = Checkpoint::new("acme/control", 1, leaf_hash(&leaf)).unwrap();
        let note = checkpoint.signed(&[&signer]).unwrap().to_string();
        let record = LoggedRecord {
            log: CONTROL.to_owned(),
            index: 0,
            leaf: leaf.clone(),
        };
        let proof = Inclusion {
            size: 1,
            hashes: Vec::new(),
            leaf,
            checkpoint: Some(note),
        };
        let info = LogInfo {
            name: CONTROL.to_owned(),
            origin: "acme/control".to_owned(),
            keys: vec![signer.verifier().to_string()],
            size: 1,
            first_index: 0,
        };
        (record, proof, info)
    }

    #[test]
    fn a_record_is_proved_with_the_key_that_is_told_or_given() {
        let (record, proof, info) = parts();
        assert!(!check(&record, &proof, &info, &[]).unwrap().is_pinned);
        let keys = read_keys(&info.keys).unwrap();
        assert!(check(&record, &proof, &info, &keys).unwrap().is_pinned);
    }

    #[test]
    fn nothing_that_was_changed_is_proved() {
        let (record, proof, info) = parts();
        let other = SignerKey::from_seed("acme/control", &[8; 32]).unwrap();
        let others = [other.verifier().clone()];
        assert!(check(&record, &proof, &info, &others).is_err());
        let elsewhere = LogInfo {
            origin: "acme/decision/x".to_owned(),
            ..info.clone()
        };
        assert!(check(&record, &proof, &elsewhere, &[]).is_err());
        let changed = LoggedRecord {
            leaf: b"another".to_vec(),
            ..record.clone()
        };
        assert!(check(&changed, &proof, &info, &[]).is_err());
        let both = Inclusion {
            leaf: changed.leaf.clone(),
            ..proof.clone()
        };
        assert!(check(&changed, &both, &info, &[]).is_err());
        let unsigned = Inclusion {
            checkpoint: None,
            ..proof.clone()
        };
        assert!(check(&record, &unsigned, &info, &[]).is_err());
        let longer = Inclusion { size: 2, ..proof };
        assert!(check(&record, &longer, &info, &[]).is_err());
    }
}
