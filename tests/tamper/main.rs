//! A cluster's audit folders are verified as they are, and after something was changed that is protected.
//!
//! Protected is
//! - in a segment: every byte up to the end of the last bundle whose hash is in `hashes` (checksums and hashes stand for them);
//! - in `hashes`: the hashes of those bundles;
//! - in `tail`: every byte up to the end of the last record that is covered, where anything is: a record is covered by a
//!   checkpoint of its log of a larger size, by what the control log says of a decision log (anchor, end), and for the control log by
//!   another replica's copy or a head that was kept elsewhere;
//! - `key` and `checkpoints`: every byte.
//!
//! Not protected, and never changed here: what a crash left behind the end of a file, records that nothing covers yet, the end of
//! `checkpoints` (a signature that is taken away covers nothing any more), later keys at the end of the control log's `key` (the log
//! holds them), the last record about an approval where nothing covers it, and reservations in a tail without a covered record.
//!
//! `COUNTERSIGN_TAMPER` says how many changes are made (400), `COUNTERSIGN_HONEST` how many untouched clusters are verified (60).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the unexpected, and reads what it is told from the environment"
)]

mod changes;
mod cluster;
mod database;
mod files;
mod leavings;
mod log;
mod logical;
mod maker;
mod random;
mod records;

/// The lives of approvals, as the tests of approvals make them.
#[path = "../approvals"]
mod lives {
    #[expect(dead_code, reason = "shared with the tests of approvals")]
    pub(crate) mod support;
    #[path = "random"]
    pub(crate) mod random {
        pub(crate) mod dice;
        pub(crate) mod life;
    }
}

use std::path::PathBuf;

use countersign::audit::note::VerifierKey;
use countersign::audit::verify::{Report, Severity};
use countersign::cli::{VerifyInputs, verify};

use cluster::{Cluster, Tally};
use maker::Maker;

/// How often something is done: as the environment says, or else `usual` times.
fn times(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |number| number.parse().unwrap())
}

/// What is verified against.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) keys: Vec<VerifierKey>,
    pub(crate) heads: Option<String>,
}

/// Verifies the folders.
pub(crate) fn report(folders: &[PathBuf], given: Given) -> Report {
    let inputs = VerifyInputs {
        sources: folders.to_vec(),
        keys: given.keys,
        heads: given.heads,
        ..VerifyInputs::default()
    };
    verify(&inputs).unwrap()
}

/// What is grave about a report, one a line.
fn grave(report: &Report) -> Vec<String> {
    let findings = report.findings.kept().iter();
    let grave = findings.filter(|each| each.kind.severity() > Severity::Note);
    grave.map(|each| format!("{each:?}")).collect()
}

fn everything(cluster: &Cluster) -> Given {
    Given {
        keys: vec![cluster.pinned()],
        heads: Some(cluster.heads_text()),
    }
}

#[test]
fn untouched_logs_are_intact() {
    let count = times("COUNTERSIGN_HONEST", 60);
    let mut approvals = 0;
    for seed in 0..count {
        let cluster = Maker::cluster(seed);
        let root = tempfile::tempdir().unwrap();
        let folders = cluster.write(root.path());
        for given in [Given::default(), everything(&cluster)] {
            let report = report(&folders, given);
            assert_eq!(grave(&report), Vec::<String>::new(), "seed {seed}");
            assert_eq!(report.verdict(), Severity::Note, "seed {seed}");
            approvals += report.approvals.opened;
        }
    }
    eprintln!("{count} untouched clusters are intact; {approvals} approvals replayed");
}

#[test]
fn every_protected_change_is_found() {
    let count = times("COUNTERSIGN_TAMPER", 400);
    let mut made = Tally::new();
    let mut missed = Vec::new();
    let mut seed = 1_000_000;
    while made.values().sum::<u64>() < count {
        let cluster = Maker::cluster(seed);
        for round in 0..20 {
            let root = tempfile::tempdir().unwrap();
            let Some(change) = changes::change(&cluster, seed * 100 + round, root.path()) else {
                continue;
            };
            *made.entry(change.kind).or_default() += 1;
            let found = report(&change.folders, change.given);
            if found.verdict() == Severity::Note {
                missed.push(format!(
                    "seed {seed} round {round}: {}: {}",
                    change.kind, change.what
                ));
            }
        }
        seed += 1;
    }
    let all: u64 = made.values().sum();
    eprintln!("{all} changes, {} missed: {made:#?}", missed.len());
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_bundle_is_verified_as_its_folder_is() {
    for seed in 0..5 {
        let cluster = Maker::cluster(seed);
        let root = tempfile::tempdir().unwrap();
        let folders = cluster.write(root.path());
        let bundles: Vec<PathBuf> = folders.iter().map(|folder| bundle(folder)).collect();
        let unpacked = report(&folders, everything(&cluster));
        let packed = report(&bundles, everything(&cluster));
        assert_eq!(packed.verdict(), Severity::Note, "{:?}", grave(&packed));
        let sizes = |report: &Report| -> Vec<(u64, u64, String)> {
            let logs = report.logs.iter();
            logs.map(|log| (log.size, log.covered, log.root.clone()))
                .collect()
        };
        assert_eq!(sizes(&packed), sizes(&unpacked));
        assert_eq!(packed.approvals, unpacked.approvals);
    }
}

/// The folder as an archive beside it.
fn bundle(folder: &std::path::Path) -> PathBuf {
    let path = folder.with_extension("tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
    archive.append_dir_all(".", folder).unwrap();
    archive.finish().unwrap();
    path
}

#[test]
fn what_cannot_begin_is_no_finding() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a-file");
    std::fs::write(&file, b"no bundle").unwrap();
    for wrong in [root.path().to_owned(), root.path().join("nowhere"), file] {
        let inputs = VerifyInputs {
            sources: vec![wrong],
            ..VerifyInputs::default()
        };
        verify(&inputs).unwrap_err();
    }
}
