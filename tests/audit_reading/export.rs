//! An export opens again, and holds nothing that speaks of records that it does not hold.

use std::collections::BTreeMap;
use std::io::Read;

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::filter::{EntityName, RecordFilter};
use countersign::audit::proof::verify_inclusion;
use countersign::audit::tree::{TreeHash, leaf_hash};
use countersign::storage::audit_folder::AuditFolder;
use countersign::storage::log_folder::{Extent, FolderReader, prune, recover};
use countersign::usecase::audit_reading::{LogLibrary, ReadError};

use crate::support::{Log, ONE, TWO, decision, folder};

fn unpack(archive: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(archive).unpack(folder.path()).unwrap();
    folder
}

fn records(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let reader = FolderReader::open(folder).unwrap();
    let records = reader.records(reader.first_index(), u64::MAX);
    records.map(|record| record.unwrap().1).collect()
}

#[test]
fn whole_logs_open_again() {
    let (root, mut logs, library) = folder([300, 1_500, 20]);
    // Beyond the last checkpoint, as a running server leaves it.
    logs[1].append(
        (0..50)
            .map(|n| decision(1_700_000_100_000_000, n))
            .collect(),
    );
    let mut archive = Vec::new();
    let exported = library
        .export(&RecordFilter::default(), &mut archive)
        .unwrap();
    assert_eq!(exported, 1_550 + 20);
    let copy = unpack(&archive);
    for (log, below) in logs.iter().zip([
        "control".to_owned(),
        format!("decision/{ONE}"),
        format!("decision/{TWO}"),
    ]) {
        assert_eq!(records(&copy.path().join(&below)), log.leaves);
        let there = recover(&copy.path().join(&below), Extent::Everything);
        assert!(there.is_ok(), "{below}");
        let notes = |folder: &std::path::Path| {
            std::fs::read(folder.join(&below).join("checkpoints")).unwrap()
        };
        assert_eq!(notes(copy.path()), notes(root.path()));
    }
    let again = AuditFolder::open(copy.path()).unwrap();
    assert_eq!(
        again.inclusion(ONE, 77, None).unwrap(),
        library.inclusion(ONE, 77, None).unwrap()
    );
    let mut second = Vec::new();
    library
        .export(&RecordFilter::default(), &mut second)
        .unwrap();
    assert_eq!(archive, second);
}

#[test]
fn a_pruned_log_is_exported_with_its_hashes() {
    let (root, _logs, library) = folder([1, 2_000, 0]);
    let folder = root.path().join("decision").join(ONE);
    let first = prune(&folder, 1_000).unwrap();
    assert!(first > 0);
    let mut archive = Vec::new();
    let exported = library
        .export(&RecordFilter::default(), &mut archive)
        .unwrap();
    assert_eq!(exported, 2_000 - first);
    let copy = AuditFolder::open(unpack(&archive).path()).map(|_| ());
    assert!(copy.is_ok());
    let proof = library.inclusion(ONE, 1_999, None).unwrap();
    assert_eq!(proof.leaf, library.record(ONE, 1_999).unwrap());
    assert!(matches!(
        library.inclusion(ONE, 0, None),
        Err(ReadError::NoSuchRecord { .. })
    ));
}

#[test]
fn selected_records_carry_their_proofs() {
    let (_root, logs, library) = folder([300, 900, 400]);
    let filter = RecordFilter {
        principal: EntityName::parse("User::\"u1\""),
        ..RecordFilter::default()
    };
    let mut archive = Vec::new();
    let exported = library.export(&filter, &mut archive).unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    assert_eq!(
        records(&unpack(&archive).path().join("control")),
        logs[0].leaves
    );
    assert!(!files.keys().any(|path| path.starts_with("decision/")));
    let mut selected = 0;
    for log in &logs[1..] {
        let file = |name: &str| &files[&format!("selected/{}/{name}", log.name)];
        let note = String::from_utf8(file("checkpoint").clone()).unwrap();
        let keys = [log.key().verifier().clone()];
        let checkpoint = Checkpoint::open(&note, log.key().verifier().name(), &keys).unwrap();
        let mut rest = file("records-000001")
            .strip_prefix(b"CSSEL\x01\0\0")
            .unwrap();
        while !rest.is_empty() {
            let index = u64::from_le_bytes(rest[..8].try_into().unwrap());
            let word = |at: usize| {
                usize::try_from(u32::from_le_bytes(rest[at..at + 4].try_into().unwrap())).unwrap()
            };
            let (length, hashes) = (word(8), word(12));
            let leaf = &rest[16..16 + length];
            let proof = &rest[16 + length..16 + length + 32 * hashes];
            rest = &rest[16 + length + 32 * hashes..];
            let proof: Vec<TreeHash> = proof
                .as_chunks::<32>()
                .0
                .iter()
                .copied()
                .map(TreeHash::from)
                .collect();
            assert!(filter.fits(leaf));
            assert_eq!(
                leaf,
                logs.iter().find(|it| it.name == log.name).unwrap().leaves
                    [usize::try_from(index).unwrap()]
            );
            verify_inclusion(
                &leaf_hash(leaf),
                index,
                checkpoint.size(),
                &proof,
                checkpoint.root(),
            )
            .unwrap();
            selected += 1;
        }
    }
    assert_eq!((selected, exported), (325, 325));
}

#[test]
fn an_export_beside_the_writer_never_speaks_of_more_than_it_holds() {
    let (_root, mut logs, library) = folder([300, 200, 0]);
    let mut log: Log = logs.remove(1);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for round in 0..300 {
                log.append(
                    (0..17)
                        .map(|n| decision(1_700_000_200_000_000 + round, n))
                        .collect(),
                );
                log.sign();
            }
        });
        let mut exports = 0;
        while !writer.is_finished() || exports == 0 {
            let mut archive = Vec::new();
            library
                .export(&RecordFilter::default(), &mut archive)
                .unwrap();
            let copy = unpack(&archive);
            let copy = AuditFolder::open(copy.path()).map(|it| (it, copy)).unwrap();
            let proof = copy.0.inclusion(ONE, 199, None).unwrap();
            assert!(proof.size <= copy.0.logs().unwrap().last().unwrap().size.max(200));
            let info = copy
                .0
                .logs()
                .unwrap()
                .into_iter()
                .find(|it| it.name == ONE)
                .unwrap();
            assert!(proof.size <= info.size, "{} {}", proof.size, info.size);
            exports += 1;
        }
    });
}

#[test]
fn only_a_log_that_is_here_is_exported_alone() {
    let (_root, _logs, library) = folder([30, 40, 50]);
    let of = |log: &str| RecordFilter {
        log: Some(log.to_owned()),
        ..RecordFilter::default()
    };
    let mut archive = Vec::new();
    assert_eq!(library.export(&of(ONE), &mut archive).unwrap(), 40);
    assert!(!unpack(&archive).path().join("decision").join(TWO).exists());
    assert_eq!(library.export(&of("control"), &mut Vec::new()).unwrap(), 0);
    let refused = library.export(&of("nowhere"), &mut Vec::new());
    assert!(matches!(refused, Err(ReadError::NoSuchLog(_))));
}
