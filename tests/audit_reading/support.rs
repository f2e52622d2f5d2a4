//! Audit folders to read.

use std::path::Path;
use std::time::Duration;

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::note::SignerKey;
use countersign::audit::proto::{Decision, Entity, Outcome, Record, record};
use countersign::storage::audit_folder::AuditFolder;
use countersign::storage::log_folder::{FolderSettings, FolderWriter};
use countersign::usecase::audit_reading::{CONTROL, LoggedRecord};
use prost::Message;
use tempfile::TempDir;

pub(crate) const ONE: &str = "0199c0de-0000-7000-8000-000000000001";
pub(crate) const TWO: &str = "0199c0de-0000-7000-8000-000000000002";

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) name: String,
    pub(crate) leaves: Vec<Vec<u8>>,
    writer: FolderWriter,
    signer: SignerKey,
}

impl Log {
    pub(crate) fn create(root: &Path, name: &str) -> Self {
        let (folder, origin) = match name {
            CONTROL => (root.join(CONTROL), "acme/control".to_owned()),
            name => (
                root.join("decision").join(name),
                format!("acme/decision/{name}"),
            ),
        };
        let signer = SignerKey::from_seed(&origin, &[7; 32]).unwrap();
        let settings = FolderSettings {
            segment_bytes: 4_000,
            ..FolderSettings::default()
        };
        let key = format!("{}\n", signer.verifier());
        let writer = FolderWriter::create(&folder, &key, settings).unwrap();
        Self {
            name: name.to_owned(),
            leaves: Vec::new(),
            writer,
            signer,
        }
    }

    pub(crate) fn append(&mut self, leaves: Vec<Vec<u8>>) {
        let records = leaves.iter().map(Vec::as_slice);
        self.writer.append_round(records, Duration::ZERO).unwrap();
        self.leaves.extend(leaves);
    }

    pub(crate) fn sign(&mut self) {
        let (size, root) = (self.writer.size(), self.writer.root().unwrap());
        let checkpoint = Checkpoint::new(self.signer.verifier().name(), size, root).unwrap();
        let note = checkpoint.signed(&[&self.signer]).unwrap().to_string();
        self.writer.append_checkpoint(&note).unwrap();
    }

    pub(crate) fn key(&self) -> &SignerKey {
        &self.signer
    }

    pub(crate) fn records(&self) -> impl DoubleEndedIterator<Item = LoggedRecord> + '_ {
        (0..)
            .zip(&self.leaves)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(index, leaf)| LoggedRecord {
                log: self.name.clone(),
                index,
                leaf: leaf.clone(),
            })
    }
}

/// A decision at `at_us` by the `n`th of four principals with one of three answers.
pub(crate) fn decision(at_us: i64, n: u64) -> Vec<u8> {
    let outcome = match n % 3 {
        0 => Outcome::Allow,
        1 => Outcome::Deny,
        _ => Outcome::RequireApproval,
    };
    let entity = |kind: &str, id: String| {
        Some(Entity {
            r#type: kind.to_owned(),
            id,
        })
    };
    let millis = u64::try_from(at_us / 1_000).unwrap();
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&n.to_be_bytes());
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid();
    let decision = Decision {
        decision_id: id.as_bytes().to_vec(),
        outcome: outcome.into(),
        principal: entity("User", format!("u{}", n % 4)),
        action: format!("a{}", n % 5),
        resource: entity("Doc", format!("d{}", n % 7)),
        approval_id: if n.is_multiple_of(6) {
            format!("approval-{}", n % 12)
        } else {
            String::new()
        },
        ..Decision::default()
    };
    let what = Some(record::What::Decision(decision));
    Record { at_us, what }.encode_to_vec()
}

/// A folder with a control log and two decision logs of these sizes, one record each ten milliseconds, signed.
pub(crate) fn folder(sizes: [u64; 3]) -> (TempDir, Vec<Log>, AuditFolder) {
    let root = tempfile::tempdir().unwrap();
    let mut logs = Vec::new();
    for (at, (name, size)) in [CONTROL, ONE, TWO].into_iter().zip(sizes).enumerate() {
        let mut log = Log::create(root.path(), name);
        let shift = i64::try_from(at).unwrap() * 3_000 + 1_700_000_000_000_000;
        let leaves = (0..size).map(|n| decision(shift + i64::try_from(n).unwrap() * 10_000, n));
        log.append(leaves.collect());
        log.sign();
        logs.push(log);
    }
    let library = AuditFolder::open(root.path()).unwrap();
    (root, logs, library)
}
