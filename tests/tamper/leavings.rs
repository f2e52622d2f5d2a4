//! What servers leave beside whole and quiet logs: selections, lost replicas, keys of others, kinds of records of later versions.

use std::fs;
use std::path::Path;

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::control_record::encode_control;
use countersign::audit::proof::inclusion_proof;
use countersign::audit::proto::{ReplicaLost, record::What};
use countersign::audit::verify::{Kind, Report, Severity};
use countersign::storage::log_folder::FolderReader;

use crate::cluster::{Cluster, End, signer};
use crate::lives::random::dice::Dice;
use crate::maker::Maker;
use crate::{Given, everything, grave, report};

fn has(report: &Report, kind: Kind) -> bool {
    report.findings.counts().contains_key(&kind)
}

/// Puts every third record of the decision log in `log`, whose key is `start`'s, below `root`, with its proof.
fn select(root: &Path, log: &Path, cluster: &Cluster, at: usize) -> usize {
    let start = &cluster.starts[at];
    let reader = FolderReader::open(log).unwrap();
    let below = root.join("selected").join(&start.incarnation);
    fs::create_dir_all(&below).unwrap();
    let (size, note) = start.log.notes.last().unwrap();
    fs::write(below.join("key"), &start.log.key_lines).unwrap();
    fs::write(below.join("checkpoint"), note).unwrap();
    let (mut part, mut records) = (b"CSSEL\x01\0\0".to_vec(), 0);
    for index in (0..*size).step_by(3) {
        let leaf = &start.log.leaves[usize::try_from(index).unwrap()];
        let proof = inclusion_proof(&reader, index, *size).unwrap();
        part.extend_from_slice(&index.to_le_bytes());
        for length in [leaf.len(), proof.len()] {
            part.extend_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        }
        part.extend_from_slice(leaf);
        for hash in &proof {
            part.extend_from_slice(hash.as_bytes());
        }
        records += 1;
    }
    fs::write(below.join("records-000001"), part).unwrap();
    records
}

#[test]
fn a_selection_is_proved_record_by_record() {
    let (mut selections, mut flips) = (0, 0);
    for seed in 0..40 {
        let cluster = Maker::cluster(seed);
        let at = (0..cluster.starts.len()).find(|at| {
            let log = &cluster.starts[*at].log;
            log.signed() > 0 && log.pruned == 0
        });
        let Some(at) = at else { continue };
        let root = tempfile::tempdir().unwrap();
        let folders = cluster.write(root.path());
        let start = &cluster.starts[at];
        let decisions = folders[start.replica].join("decision");
        let bundle = root.path().join("bundle");
        cluster.control.write(&bundle.join("control"));
        let records = select(&bundle, &decisions.join(&start.incarnation), &cluster, at);
        let found = report(std::slice::from_ref(&bundle), everything(&cluster));
        assert_eq!(grave(&found), Vec::<String>::new(), "seed {seed}");
        assert!(has(&found, Kind::OnlySelected) && records > 0);
        selections += 1;
        let mut dice = Dice::new(seed);
        for name in ["key", "checkpoint", "records-000001"] {
            let path = bundle.join("selected").join(&start.incarnation).join(name);
            let right = fs::read(&path).unwrap();
            for _ in 0..5 {
                let mut wrong = right.clone();
                let place = dice.below(wrong.len());
                wrong[place] ^= 1 << dice.below(8);
                fs::write(&path, wrong).unwrap();
                let found = report(std::slice::from_ref(&bundle), everything(&cluster));
                assert_eq!(
                    found.verdict(),
                    Severity::Tampering,
                    "{seed} {name} {place}"
                );
                flips += 1;
            }
            fs::write(&path, right).unwrap();
        }
    }
    eprintln!("{selections} selections are proved; {flips} changes to them are found");
}

#[test]
fn a_log_without_its_key_is_damaged() {
    for seed in 0..10 {
        let cluster = Maker::cluster(seed);
        let Some(start) = cluster.starts.iter().find(|each| each.log.size() > 0) else {
            continue;
        };
        let root = tempfile::tempdir().unwrap();
        let folders = cluster.write(root.path());
        let folder = folders[start.replica].join("decision");
        fs::remove_file(folder.join(&start.incarnation).join("key")).unwrap();
        let found = report(&folders, Given::default());
        assert!(has(&found, Kind::Damaged), "seed {seed}");
    }
}

#[test]
fn signatures_of_others_beside_a_good_one_are_a_note() {
    let mut cluster = Maker::cluster(1);
    let size = cluster.control.size();
    let own = cluster.signer(size);
    let other = signer(&cluster.control.origin, &mut Dice::new(9));
    let root = cluster.control.root(size);
    let checkpoint = Checkpoint::new(&cluster.control.origin, size, root).unwrap();
    for (signers, verdict) in [
        (vec![&own, &other], Severity::Note),
        (vec![&other], Severity::Tampering),
    ] {
        cluster.control.notes = vec![(size, checkpoint.signed(&signers).unwrap().to_string())];
        cluster.copies = vec![size; cluster.copies.len()];
        let folder = tempfile::tempdir().unwrap();
        let found = report(&cluster.write(folder.path()), everything(&cluster));
        assert_eq!(found.verdict(), verdict, "{:?}", grave(&found));
        assert_eq!(
            has(&found, Kind::UnknownSignature),
            verdict == Severity::Note
        );
    }
}

/// A cluster with one more record at the end of its control log, signed.
fn with(seed: u64, leaf: Vec<u8>) -> Cluster {
    let mut cluster = Maker::cluster(seed);
    cluster.control.leaves.push(leaf);
    let size = cluster.control.size();
    let signer = cluster.signer(size);
    cluster.control.sign(&signer);
    cluster.copies = vec![size; cluster.copies.len()];
    cluster
}

#[test]
fn a_replica_that_was_lost_before_it_began_is_a_note() {
    for (size, verdict) in [(0, Severity::Note), (1, Severity::Tampering)] {
        let lost = ReplicaLost {
            incarnation: "01920000-0000-7000-8000-ffffffffffff".to_owned(),
            size,
            root: vec![0; 32],
            ..ReplicaLost::default()
        };
        let cluster = with(3, encode_control(5, What::ReplicaLost(lost)));
        let folder = tempfile::tempdir().unwrap();
        let found = report(&cluster.write(folder.path()), Given::default());
        assert_eq!(found.verdict(), verdict, "{:?}", grave(&found));
    }
}

#[test]
fn a_lost_log_may_be_longer_than_was_known() {
    let mut seen = 0;
    for seed in 0..60 {
        let mut cluster = Maker::cluster(seed);
        let Some(start) = cluster.starts.iter_mut().find(|each| each.end == End::Lost) else {
            continue;
        };
        let Some(last) = start.log.leaves.last().cloned() else {
            continue;
        };
        start.log.leaves.push(last);
        let folder = tempfile::tempdir().unwrap();
        let found = report(&cluster.write(folder.path()), Given::default());
        assert!(!has(&found, Kind::RecordsAfterEnd), "seed {seed}");
        assert!(has(&found, Kind::LostLonger) && has(&found, Kind::LostUnsigned));
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn a_record_of_a_later_version_is_incomplete() {
    let cluster = with(4, vec![8, 1, (15 << 3) | 2, 1, 0]);
    let folder = tempfile::tempdir().unwrap();
    let found = report(&cluster.write(folder.path()), Given::default());
    assert_eq!(found.verdict(), Severity::Incomplete, "{:?}", grave(&found));
    assert!(has(&found, Kind::NewerRecord));
}

#[test]
fn heads_without_their_log_are_missed() {
    let cluster = Maker::cluster(5);
    let folder = tempfile::tempdir().unwrap();
    let folders = cluster.write(folder.path());
    for each in &folders {
        fs::remove_dir_all(each.join("control")).unwrap();
        fs::create_dir_all(each.join("decision")).unwrap();
    }
    let found = report(&folders, everything(&cluster));
    assert!(has(&found, Kind::HeadBeyondLog));
    let found = report(&folders, Given::default());
    assert!(!has(&found, Kind::HeadBeyondLog) && has(&found, Kind::ControlMissing));
}
