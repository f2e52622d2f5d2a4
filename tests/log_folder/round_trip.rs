//! What is written is read: in rounds of any size, with interruptions, from any record to any other.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use countersign::audit::proof::{self, inclusion_proof, verify_inclusion};
use countersign::audit::tree::leaf_hash;
use countersign::storage::log_folder::{
    Extent, FolderError, FolderReader, FolderSettings, FolderWriter, recover,
};
use proptest::prelude::*;

use crate::disk::new_folder;
use crate::logs::{KEYS, SMALL, append, check_prefix, note, record, records, roots};

fn rounds() -> impl Strategy<Value = Vec<(u64, bool)>> {
    let round = prop_oneof![0..4_u64, 250..262_u64, 505..520_u64, 0..900_u64];
    // The second part is whether the log is reopened after the round.
    prop::collection::vec((round, prop::bool::weighted(0.3)), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rounds_of_any_size_read_back(
        rounds in rounds(), segment_bytes in 0..30_000_u64, reserve in 0..400_u64, (from, to) in (0..3_000_u64, 0..3_000_u64),
    ) {
        let settings = FolderSettings { segment_bytes, reserve, ..SMALL };
        let (folder, _parent) = new_folder();
        let mut writer = FolderWriter::create(&folder, KEYS, settings).unwrap();
        let mut size = 0;
        for (round, is_reopened) in rounds {
            let outcome = append(&mut writer, &records(0, size, size + round)).unwrap();
            prop_assert_eq!((outcome.first, outcome.size), (size, size + round));
            size += round;
            prop_assert!(reserve == 0 || writer.reserved() >= size + reserve / 2);
            if is_reopened {
                let (stored, root, reserved) = (writer.stored_bytes(), writer.root().unwrap(), writer.reserved());
                drop(writer);
                writer = FolderWriter::reopen(&folder, settings).unwrap();
                prop_assert_eq!((writer.size(), writer.root().unwrap()), (size, root));
                prop_assert!(writer.stored_bytes() <= stored + 17 && writer.reserved() >= reserved);
            }
        }
        let expected = records(0, 0, size);
        let roots = roots(&expected);
        let recovered = check_prefix(&folder, &expected, &roots);
        prop_assert_eq!((recovered.size, recovered.torn_bytes), (size, 0));
        prop_assert_eq!(recovered.frontier, writer.frontier().unwrap());
        prop_assert_eq!(recovered.reserved, writer.reserved().max(size));
        let reader = FolderReader::open(&folder).unwrap();
        let end = to.min(size);
        let indexes: Vec<u64> = reader.records(from, to).map(|it| it.unwrap().0).collect();
        prop_assert_eq!(indexes, (from..end).collect::<Vec<_>>());
        for index in [from, to, 255, 256, size.saturating_sub(1), size] {
            let expected = (index < size).then(|| record(0, index));
            prop_assert_eq!(reader.record(index).unwrap(), expected);
            if index < size {
                let proof = inclusion_proof(&reader, index, size).unwrap();
                let leaf = leaf_hash(&record(0, index));
                prop_assert!(verify_inclusion(&leaf, index, size, &proof, &roots[usize::try_from(size).unwrap()]).is_ok());
            }
        }
        for old in [from, to, 256, 257].into_iter().filter(|old| *old <= size) {
            prop_assert_eq!(proof::root(&reader, old).unwrap(), roots[usize::try_from(old).unwrap()]);
        }
    }
}

#[test]
fn bundles_are_shown_from_the_first_to_the_last_record_asked_for() {
    let (folder, _parent) = new_folder();
    drop(crate::logs::write(&folder, 700, 100));
    let reader = FolderReader::open(&folder).unwrap();
    let mut shown = Vec::new();
    let all = reader.for_each_bundle(250, 600, |first, records| {
        shown.push((first, records.len()));
        ControlFlow::<()>::Continue(())
    });
    assert!(all.unwrap().is_continue());
    assert_eq!(shown, [(250, 6), (256, 256), (512, 88)]);
    let stopped = reader.for_each_bundle(0, 600, |first, _| ControlFlow::Break(first));
    assert_eq!(stopped.unwrap(), ControlFlow::Break(0));
    assert_eq!(reader.bundle(1).unwrap(), Some(records(0, 256, 512)));
    assert_eq!((reader.bundle(2).unwrap(), reader.bundles()), (None, 2));
}

#[test]
fn a_segment_ends_with_its_age() {
    let (folder, _parent) = new_folder();
    let settings = FolderSettings {
        segment_age: Duration::from_secs(60),
        ..FolderSettings::default()
    };
    let mut writer = FolderWriter::create(&folder, KEYS, settings).unwrap();
    for (number, second) in [0, 59, 60, 61, 119, 120].into_iter().enumerate() {
        let from = u64::try_from(number).unwrap() * 256;
        let round = records(0, from, from + 256);
        writer
            .append_round(round.iter().map(Vec::as_slice), Duration::from_secs(second))
            .unwrap();
    }
    let names = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<String> = names.filter(|name| name.starts_with("0000")).collect();
    segments.sort();
    assert_eq!(
        segments,
        [0, 512, 1280].map(|first| format!("{first:020}.seg"))
    );
}

#[test]
fn a_new_log_is_empty_and_readable_for_its_owner_and_group() {
    let (folder, _parent) = new_folder();
    let folder = folder.join("deeper/still");
    let writer = FolderWriter::create(&folder, KEYS, SMALL).unwrap();
    let recovered = recover(&folder, Extent::Everything).unwrap();
    assert_eq!(
        (recovered.size, recovered.root),
        (0, writer.root().unwrap())
    );
    assert_eq!((recovered.reserved, recovered.torn_bytes), (150, 0));
    assert_eq!(fs::read_to_string(folder.join("key")).unwrap(), KEYS);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.clone()) & !0o750, 0);
    for name in ["key", "hashes", "tail", "checkpoints"] {
        assert_eq!(mode(folder.join(name)) & !0o640, 0);
    }
    let again = FolderWriter::create(&folder, KEYS, SMALL);
    assert!(matches!(again, Err(FolderError::NotEmpty { .. })));
}

#[test]
fn checkpoints_read_back() {
    let (folder, _parent) = new_folder();
    let mut writer = crate::logs::write(&folder, 30, 10);
    writer.append_checkpoint(&note(31)).unwrap();
    let reader = FolderReader::open(&folder).unwrap();
    let notes: Vec<String> = reader.checkpoints().unwrap().map(Result::unwrap).collect();
    assert_eq!(notes, [10, 20, 30, 31].map(note));
    assert_eq!(reader.last_checkpoint().unwrap(), Some(note(31)));
    drop(writer);
    let mut writer = FolderWriter::reopen(&folder, SMALL).unwrap();
    writer.append_checkpoint(&note(32)).unwrap();
    assert_eq!(
        recover(&folder, Extent::Everything)
            .unwrap()
            .last_checkpoint,
        Some(note(32))
    );
}

#[test]
fn indexes_can_be_reserved_before_they_are_written() {
    let (folder, _parent) = new_folder();
    let mut writer = crate::logs::write(&folder, 300, 100);
    writer.reserve_ahead_of(1_000).unwrap();
    assert_eq!(writer.reserved(), 1_150);
    assert_eq!(
        recover(&folder, Extent::Everything).unwrap().reserved,
        1_150
    );
    append(&mut writer, &records(0, 300, 600)).unwrap();
    assert_eq!(
        recover(&folder, Extent::Everything).unwrap().reserved,
        1_150
    );
}

#[test]
fn writers_and_readers_may_change_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<FolderWriter>();
    is_send::<FolderReader>();
    is_sync::<FolderReader>();
}
