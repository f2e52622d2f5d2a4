//! A reader beside the writer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use countersign::audit::proof;
use countersign::storage::log_folder::{FolderReader, FolderWriter, prune};

use crate::disk::new_folder;
use crate::logs::{KEYS, SMALL, append, record, records, roots};

#[test]
fn a_reader_sees_the_first_so_many_records_while_they_are_written() {
    let expected = records(0, 0, 12_000);
    let roots = roots(&expected);
    let (folder, _parent) = new_folder();
    let mut writer = FolderWriter::create(&folder, KEYS, SMALL).unwrap();
    let is_done = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let rounds = [1, 90, 300, 7, 255, 256, 60];
            let mut rest = expected.as_slice();
            for round in rounds.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*round));
                acknowledged.store(append(&mut writer, now).unwrap().size, Ordering::Release);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            is_done.store(true, Ordering::Release);
        });
        let mut reader = FolderReader::open(&folder).unwrap();
        let mut views = 0;
        while !is_done.load(Ordering::Acquire) {
            let known = acknowledged.load(Ordering::Acquire);
            let before = reader.size();
            reader.refresh().unwrap();
            let size = reader.size();
            assert!(
                size >= before && size >= known,
                "{size} after {before}, {known} were acknowledged"
            );
            let root = proof::root(&reader, size).unwrap();
            assert_eq!(root, roots[usize::try_from(size).unwrap()]);
            for (index, shown) in reader
                .records(before.saturating_sub(3), size)
                .map(Result::unwrap)
            {
                assert_eq!(shown, record(0, index));
            }
            views += 1;
        }
        reader.refresh().unwrap();
        assert_eq!(reader.size(), 12_000);
        assert!(views > 5, "{views} views");
    });
}

#[test]
fn a_reader_beside_pruning_says_what_was_pruned() {
    let (folder, _parent) = new_folder();
    let writer = crate::logs::write(&folder, 5_000, 500);
    let mut reader = FolderReader::open(&folder).unwrap();
    let first = prune(&folder, 3_000).unwrap();
    assert!(first > 2_000);
    let error = reader.records(0, 10).next().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the records below {first} were pruned")
    );
    reader.refresh().unwrap();
    assert_eq!(
        (reader.first_index(), reader.record(0).unwrap()),
        (first, None)
    );
    drop(writer);
}
