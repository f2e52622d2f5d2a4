//! Power fails at every moment of a run: what is then on the disk holds every record that was acknowledged, and no other.
//!
//! The disk of this test keeps what was synced. Of the one write that was not, it keeps the beginning up to any byte, or only what
//! comes behind that byte; of a name that was not synced, nothing or all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use countersign::audit::tree::TreeHash;
use countersign::storage::log_folder::{Extent, FolderError, FolderReader, FolderWriter, recover};

use crate::disk::{Call, TestDisk, new_folder};
use crate::logs::{KEYS, SMALL, append, check_prefix, note, record, records, roots};

type Files = BTreeMap<String, Vec<u8>>;

/// What had been acknowledged when the disk had done so many calls.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    calls: usize,
    size: u64,
    reserved: u64,
    checkpoint: u64,
}

/// A run, and what can be left of it.
struct Run {
    calls: Vec<Call>,
    marks: Vec<Mark>,
    records: Vec<Vec<u8>>,
    roots: Vec<TreeHash>,
}

fn run(rounds: &[u64]) -> Run {
    let (folder, _parent) = new_folder();
    let disk = TestDisk::default();
    let mut writer = FolderWriter::create_on(Box::new(disk.clone()), &folder, KEYS, SMALL).unwrap();
    let mut marks = Vec::new();
    let mut checkpoint = 0;
    let mut size = 0;
    let mark = |writer: &FolderWriter, checkpoint| Mark {
        calls: disk.count(),
        size: writer.size(),
        reserved: writer.reserved(),
        checkpoint,
    };
    marks.push(mark(&writer, 0));
    for (number, round) in rounds.iter().enumerate() {
        append(&mut writer, &records(0, size, size + round)).unwrap();
        size += round;
        marks.push(mark(&writer, checkpoint));
        if number % 3 == 0 {
            checkpoint = size;
            writer.append_checkpoint(&note(size)).unwrap();
            marks.push(mark(&writer, checkpoint));
        }
    }
    let records = records(0, 0, size);
    let roots = roots(&records);
    Run {
        calls: disk.calls(),
        marks,
        records,
        roots,
    }
}

/// `bytes` written into `file` from `offset` on, but only those for which `keep` says so; zeros fill what that leaves open.
fn write_some(file: &mut Vec<u8>, offset: u64, bytes: &[u8], keep: impl Fn(usize) -> bool) {
    let offset = usize::try_from(offset).unwrap();
    for (at, byte) in bytes.iter().enumerate().filter(|(at, _)| keep(*at)) {
        if file.len() <= offset + at {
            file.resize(offset + at + 1, 0);
        }
        file[offset + at] = *byte;
    }
}

/// Goes through what can be on the disk after each of the calls.
fn for_each_state(calls: &[Call], step: usize, mut check: impl FnMut(usize, &Files)) {
    let mut files = Files::new();
    let mut new_names = BTreeSet::new();
    for (number, call) in calls.iter().enumerate() {
        check(number, &files);
        match call {
            Call::Create(name) => {
                files.insert(name.clone(), Vec::new());
                new_names.insert(name);
            }
            Call::Write(name, offset, bytes) => {
                let before = files[name].clone();
                let length = bytes.len();
                for cut in
                    (0..=length).filter(|cut| *cut < 60 || length - cut < 30 || cut % step == 0)
                {
                    for is_beginning in [true, false] {
                        // A hash never lies in two sectors, so the disk has all of it behind a hole or nothing.
                        if name == "hashes" && !is_beginning && cut % 32 != 0 {
                            continue;
                        }
                        let mut torn = before.clone();
                        write_some(&mut torn, *offset, bytes, |at| (at < cut) == is_beginning);
                        files.insert(name.clone(), torn);
                        check(number, &files);
                        // Names are synced after the bytes.
                        if new_names.contains(name) && cut % (8 * step) == 0 {
                            let file = files.remove(name).unwrap();
                            check(number, &files);
                            files.insert(name.clone(), file);
                        }
                    }
                }
                let mut whole = before;
                write_some(&mut whole, *offset, bytes, |_| true);
                files.insert(name.clone(), whole);
            }
            Call::SyncFolder => new_names.clear(),
            Call::Sync => {}
        }
    }
    check(calls.len(), &files);
}

fn put(folder: &Path, files: &Files) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn check(run: &Run, folder: &Path, calls: usize, files: &Files) -> u64 {
    let acknowledged = run.marks.iter().rev().find(|mark| mark.calls <= calls);
    let next = run.marks.iter().find(|mark| mark.calls > calls);
    put(folder, files);
    let Some(acknowledged) = acknowledged else {
        // A log whose creation was not finished is none, or an empty one.
        match recover(folder, Extent::Everything) {
            Err(FolderError::NotALog { .. }) => {}
            recovered => assert_eq!(recovered.unwrap().size, 0),
        }
        return 0;
    };
    let recovered = check_prefix(folder, &run.records, &run.roots);
    assert!(
        recovered.size >= acknowledged.size,
        "{acknowledged:?}: {recovered:?}"
    );
    assert!(recovered.size <= next.unwrap_or(acknowledged).size);
    assert!(
        recovered.reserved >= acknowledged.reserved,
        "{acknowledged:?}: {recovered:?}"
    );
    let checkpoint = recovered.last_checkpoint;
    let later = next.filter(|next| checkpoint == Some(note(next.checkpoint)));
    let expected = (acknowledged.checkpoint > 0).then(|| note(acknowledged.checkpoint));
    assert!(later.is_some() || checkpoint == expected);
    recovered.size
}

/// Goes on after the crash with other records than those that were lost.
fn go_on(run: &Run, folder: &Path, size: u64) {
    let reserved = recover(folder, Extent::Everything).unwrap().reserved;
    let kept = usize::try_from(size).unwrap();
    let mut all = run.records[..kept].to_vec();
    for round in [1, 120, 300] {
        let mut writer = FolderWriter::reopen(folder, SMALL).unwrap();
        assert_eq!(writer.size(), u64::try_from(all.len()).unwrap());
        assert!(writer.reserved() >= reserved);
        let from = writer.size();
        let more = records(1, from, from + round);
        append(&mut writer, &more).unwrap();
        all.extend(more);
        let recovered = check_prefix(folder, &all, &roots(&all));
        assert_eq!((recovered.size, recovered.torn_bytes), (writer.size(), 0));
        assert_eq!(recovered.root, writer.root().unwrap());
        assert_eq!(recovered.reserved, writer.reserved());
    }
}

#[test]
fn no_crash_loses_or_invents_a_record() {
    let run = run(&[3, 100, 152, 1, 90, 600, 30, 40, 200, 256, 7]);
    let (folder, _parent) = new_folder();
    let mut states = 0;
    for_each_state(&run.calls, 61, |calls, files| {
        states += 1;
        let size = check(&run, &folder, calls, files);
        let is_log = files.get("key").is_some_and(|key| key == KEYS.as_bytes());
        if states % 23 == 0 && is_log {
            go_on(&run, &folder, size);
        }
    });
    assert!(states > 2_000, "only {states} states");
}

#[test]
fn a_process_that_is_killed_between_two_calls_loses_nothing() {
    let run = run(&[255, 1, 1, 255, 256, 257, 511, 512]);
    let (folder, _parent) = new_folder();
    for_each_state(&run.calls, 100_000, |calls, files| {
        let size = check(&run, &folder, calls, files);
        if files.get("key").is_some_and(|key| key == KEYS.as_bytes()) && calls % 5 == 0 {
            go_on(&run, &folder, size);
        }
    });
}

#[test]
fn records_of_a_torn_bundle_are_read_from_the_tail() {
    let run = run(&[200, 100]);
    let (folder, _parent) = new_folder();
    let is_bundle = |call: &Call| matches!(call, Call::Write(name, ..) if name.starts_with("0000"));
    let bundle = run.calls.iter().position(is_bundle).unwrap();
    for_each_state(&run.calls, 50, |calls, files| {
        if calls == bundle {
            assert_eq!(check(&run, &folder, calls, files), 200);
            let reader = FolderReader::open(&folder).unwrap();
            assert_eq!(reader.record(199).unwrap(), Some(record(0, 199)));
        }
    });
}
