//! Writes and syncs that fail, and files that are taken away.

use std::fs;

use countersign::storage::log_folder::{FolderError, FolderWriter, MAX_RECORD_BYTES};

use crate::disk::{Failure, TestDisk, new_folder};
use crate::logs::{KEYS, NOW, SMALL, append, check_prefix, note, record, records, roots, write};

/// Writes until something fails. Answers what was acknowledged by then, and whether anything failed.
fn write_until_failure(writer: &mut FolderWriter) -> (u64, bool) {
    let mut size = 0;
    for round in [10, 200, 60, 3, 700, 255, 1, 256] {
        if append(writer, &records(0, size, size + round)).is_err() {
            return (size, true);
        }
        size += round;
        if writer.append_checkpoint(&note(size)).is_err() {
            return (size, true);
        }
    }
    (size, false)
}

#[test]
fn nothing_acknowledged_is_lost_whichever_call_fails() {
    let expected = records(0, 0, 2_000);
    let roots = roots(&expected);
    for failure in [Failure::Nothing, Failure::Half, Failure::Everything] {
        let mut failures = 0;
        for at in 1.. {
            let (folder, _parent) = new_folder();
            let disk = TestDisk::failing(at, failure);
            let Ok(mut writer) =
                FolderWriter::create_on(Box::new(disk.clone()), &folder, KEYS, SMALL)
            else {
                continue;
            };
            let (size, is_failed) = write_until_failure(&mut writer);
            assert_eq!(writer.is_failed(), is_failed);
            if !is_failed {
                break;
            }
            failures += 1;
            // Nothing is tried again, and nobody gets a root to sign.
            let calls = disk.count();
            assert_eq!(calls, at);
            assert!(matches!(
                append(&mut writer, &[record(0, 0)]),
                Err(FolderError::Failed)
            ));
            assert!(matches!(
                writer.append_checkpoint(&note(1)),
                Err(FolderError::Failed)
            ));
            assert!(matches!(
                writer.reserve_ahead_of(10_000),
                Err(FolderError::Failed)
            ));
            assert!(matches!(writer.root(), Err(FolderError::Failed)));
            assert_eq!((writer.size(), disk.count()), (size, calls));
            let recovered = check_prefix(&folder, &expected, &roots);
            assert!(recovered.size >= size);
            assert!(recovered.reserved >= writer.reserved());
        }
        assert!(failures > 30, "{failures} failures");
    }
}

#[test]
fn a_log_whose_creation_failed_is_none() {
    let (folder, _parent) = new_folder();
    let disk = TestDisk::failing(5, Failure::Nothing);
    assert!(FolderWriter::create_on(Box::new(disk), &folder, KEYS, SMALL).is_err());
    assert!(matches!(
        FolderWriter::reopen(&folder, SMALL),
        Err(FolderError::NotALog { .. })
    ));
    let again = FolderWriter::create(&folder, KEYS, SMALL);
    assert!(matches!(again, Err(FolderError::NotEmpty { .. })));
}

#[test]
fn a_record_that_is_too_long_is_refused_with_its_round_and_does_no_harm() {
    let (folder, _parent) = new_folder();
    let mut writer = write(&folder, 300, 100);
    let longest = vec![7; MAX_RECORD_BYTES];
    let too_long = vec![7; MAX_RECORD_BYTES + 1];
    let refused = writer.append_round([b"short".as_slice(), &too_long], NOW);
    assert!(matches!(refused, Err(FolderError::TooLong { .. })));
    assert!(matches!(
        writer.append_checkpoint("no note"),
        Err(FolderError::NotANote)
    ));
    assert_eq!(
        append(&mut writer, std::slice::from_ref(&longest))
            .unwrap()
            .size,
        301
    );
    let expected = [records(0, 0, 300), vec![longest]].concat();
    assert_eq!(
        check_prefix(&folder, &expected, &roots(&expected)).size,
        301
    );
}

#[test]
fn files_that_are_taken_away_are_missed() {
    for name in ["hashes", "tail", "checkpoints", "00000000000000000000.seg"] {
        let (folder, _parent) = new_folder();
        let mut writer = write(&folder, 300, 100);
        writer.still_there().unwrap();
        let file = folder.join(name);
        let link = folder.join("link");
        fs::hard_link(&file, &link).unwrap();
        fs::remove_file(&file).unwrap();
        fs::copy(&link, &file).unwrap();
        assert!(
            matches!(writer.still_there(), Err(FolderError::Replaced { .. })),
            "{name}"
        );
        assert!(matches!(
            append(&mut writer, &[record(0, 300)]),
            Err(FolderError::Failed)
        ));
    }
    let (folder, parent) = new_folder();
    let mut writer = write(&folder, 300, 100);
    fs::rename(&folder, parent.path().join("elsewhere")).unwrap();
    assert!(matches!(
        writer.still_there(),
        Err(FolderError::Replaced { .. })
    ));
}

#[test]
fn a_removed_file_is_missed() {
    let (folder, _parent) = new_folder();
    let mut writer = write(&folder, 300, 100);
    fs::remove_file(folder.join("tail")).unwrap();
    assert!(matches!(
        writer.still_there(),
        Err(FolderError::Replaced { .. })
    ));
}
