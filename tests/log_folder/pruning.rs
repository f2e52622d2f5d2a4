//! Pruning: whole segments go, proofs stay.

use countersign::audit::proof::{consistency_proof, inclusion_proof, root};
use countersign::storage::log_folder::{
    Extent, FolderError, FolderReader, FolderWriter, prune, recover,
};

use crate::disk::new_folder;
use crate::logs::{SMALL, all, append, record, records, write};

const SIZE: u64 = 5_000;

#[test]
fn a_pruned_log_has_the_same_root_and_the_same_proofs() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, SIZE, 130));
    let whole = FolderReader::open(&folder).unwrap();
    let before = recover(&folder, Extent::Everything).unwrap();
    let old_sizes: Vec<u64> = (256..=SIZE).step_by(256).chain([3_001, 4_999]).collect();
    let proofs: Vec<_> = old_sizes
        .iter()
        .map(|old| consistency_proof(&whole, *old, SIZE).unwrap())
        .collect();
    for below in [0, 100, 1_024, 2_999] {
        let first = prune(&folder, below).unwrap();
        assert!(
            first <= below && first.is_multiple_of(256) && below - first < 1_024,
            "{first} of {below}"
        );
        assert_eq!(prune(&folder, below).unwrap(), first);
        let after = recover(&folder, Extent::Everything).unwrap();
        assert_eq!(
            (after.root, &after.frontier, after.reserved),
            (before.root, &before.frontier, before.reserved)
        );
        assert_eq!(after.first_index, first);
        let reader = FolderReader::open(&folder).unwrap();
        assert_eq!(root(&reader, SIZE).unwrap(), before.root);
        for (old, proof) in old_sizes.iter().zip(&proofs) {
            assert_eq!(&consistency_proof(&reader, *old, SIZE).unwrap(), proof);
        }
        assert!(inclusion_proof(&reader, first, SIZE).is_ok());
        assert_eq!(all(&reader), records(0, first, SIZE));
        assert_eq!(reader.record(first).unwrap(), Some(record(0, first)));
        if first > 0 {
            assert!(inclusion_proof(&reader, first - 1, SIZE).is_err());
            assert_eq!(
                (reader.record(first - 1).unwrap(), reader.bundle(0).unwrap()),
                (None, None)
            );
            let pruned = reader.records(first - 1, SIZE).next().unwrap();
            assert!(matches!(pruned, Err(FolderError::Pruned { first: it }) if it == first));
        }
    }
}

#[test]
fn the_last_segment_is_never_pruned_and_a_pruned_log_goes_on() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, SIZE, 130));
    let first = prune(&folder, u64::MAX).unwrap();
    assert!(first < SIZE);
    let mut writer = FolderWriter::reopen(&folder, SMALL).unwrap();
    append(&mut writer, &records(0, SIZE, 6_000)).unwrap();
    let reader = FolderReader::open(&folder).unwrap();
    assert_eq!(all(&reader), records(0, first, 6_000));
    let (whole, _parent) = new_folder();
    assert_eq!(
        writer.root().unwrap(),
        write(&whole, 6_000, 777).root().unwrap()
    );
}

#[test]
fn an_empty_log_has_nothing_to_prune() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, 0, 1));
    assert_eq!(prune(&folder, u64::MAX).unwrap(), 0);
    assert!(matches!(
        prune(&folder.join("no"), 0),
        Err(FolderError::NotALog { .. })
    ));
}
