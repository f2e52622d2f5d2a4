//! Files changed by hand: what is changed in segments and hashes is found as damage; what is changed in the tail or cut from the log's
//! end is damage or makes the log shorter, which its last checkpoint tells.

use std::fs;
use std::path::Path;

use countersign::audit::tree::TreeHash;
use countersign::storage::log_folder::{Extent, FolderError, FolderReader, recover};

use crate::disk::new_folder;
use crate::logs::{KEYS, all, check_prefix, note, records, roots, write};

const SIZE: u64 = 800;

struct Log {
    records: Vec<Vec<u8>>,
    roots: Vec<TreeHash>,
}

impl Log {
    fn new() -> Self {
        let records = records(0, 0, SIZE);
        let roots = roots(&records);
        Self { records, roots }
    }

    /// Whether the changed folder is found to be damaged; if it is not, it must hold the first so many records, which are answered.
    fn size_of(&self, folder: &Path) -> Result<u64, FolderError> {
        recover(folder, Extent::Everything)?;
        Ok(check_prefix(folder, &self.records, &self.roots).size)
    }
}

/// Shows `check` the folder with each bit of every `step`th byte of `name` turned over, one after the other.
fn flip_bits(folder: &Path, name: &str, step: usize, mut check: impl FnMut(usize)) {
    let path = folder.join(name);
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(step) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        check(at);
    }
    fs::write(&path, &good).unwrap();
}

#[test]
fn a_bit_turned_over_in_a_segment_or_a_hash_is_damage() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, SIZE, 100));
    let segments = ["00000000000000000000.seg", "00000000000000000512.seg"];
    for (name, step) in [(segments[0], 19), (segments[1], 19), ("hashes", 1)] {
        flip_bits(&folder, name, step, |at| {
            let recovered = recover(&folder, Extent::Everything);
            let is_found = matches!(&recovered, Err(FolderError::Damaged { file, .. }) if file == name || name == "hashes");
            assert!(is_found, "{name} at {at}: {recovered:?}");
            // Readers never show anything else than what was written, either.
            if let Ok(reader) = FolderReader::open(&folder) {
                let shown: Result<Vec<_>, _> = reader.records(0, SIZE).collect();
                assert!(shown.is_err() || all(&reader) == records(0, 0, SIZE));
            }
        });
    }
    assert_eq!(Log::new().size_of(&folder).unwrap(), SIZE);
}

#[test]
fn a_bit_turned_over_in_the_tail_is_damage_or_a_shorter_log() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, SIZE, 100));
    let log = Log::new();
    let mut shorter = 0;
    flip_bits(&folder, "tail", 3, |at| match log.size_of(&folder) {
        Ok(size) => shorter += u32::from(size < SIZE),
        Err(FolderError::Damaged { .. }) => assert!(at < 8, "only the header can be damaged"),
        Err(error) => panic!("{error}"),
    });
    assert!(shorter > 200, "{shorter}");
    assert_eq!(
        recover(&folder, Extent::Everything)
            .unwrap()
            .last_checkpoint,
        Some(note(SIZE))
    );
}

#[test]
fn a_bit_turned_over_in_keys_or_checkpoints_leaves_the_records() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, SIZE, 100));
    for name in ["key", "checkpoints"] {
        flip_bits(&folder, name, 1, |_| {
            if let Ok(recovered) = recover(&folder, Extent::Everything) {
                assert_eq!(recovered.size, SIZE);
            } else {
                assert_eq!(name, "checkpoints");
            }
            if let Ok(reader) = FolderReader::open(&folder) {
                assert!(reader.checkpoints().unwrap().count() <= 9);
                assert_eq!(all(&reader).len(), 800);
            }
        });
    }
}

#[test]
fn what_is_cut_off_is_missed() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, SIZE, 100));
    let log = Log::new();
    for (name, step) in [
        ("00000000000000000000.seg", 97),
        ("00000000000000000512.seg", 13),
        ("hashes", 1),
    ] {
        let path = folder.join(name);
        let good = fs::read(&path).unwrap();
        for end in (0..good.len()).step_by(step) {
            fs::write(&path, &good[..end]).unwrap();
            let found = log.size_of(&folder);
            assert!(
                matches!(found, Err(FolderError::Damaged { .. })),
                "{name} up to {end}: {found:?}"
            );
        }
        fs::write(&path, &good).unwrap();
    }
    let path = folder.join("tail");
    let good = fs::read(&path).unwrap();
    for end in (0..10).chain((10..good.len()).step_by(5)) {
        fs::write(&path, &good[..end]).unwrap();
        match log.size_of(&folder) {
            Ok(size) => assert!((768..=SIZE).contains(&size) && end >= 8),
            Err(error) => assert!(matches!(error, FolderError::Damaged { .. }) && end < 8),
        }
    }
}

#[test]
fn whole_files_that_are_missing_are_missed() {
    for name in [
        "hashes",
        "tail",
        "checkpoints",
        "00000000000000000000.seg",
        "00000000000000000512.seg",
    ] {
        let (folder, _parent) = new_folder();
        drop(write(&folder, SIZE, 100));
        fs::remove_file(folder.join(name)).unwrap();
        let recovered = recover(&folder, Extent::Everything);
        // Without its first segment the log looks pruned, as the reader says.
        let is_pruned =
            matches!(&recovered, Ok(log) if log.first_index == 512 && name.ends_with("000.seg"));
        assert!(recovered.is_err() || is_pruned, "{name}");
    }
}

#[test]
fn bundles_that_changed_places_are_damage() {
    let (folder, _parent) = new_folder();
    drop(write(&folder, SIZE, 100));
    let path = folder.join("00000000000000000000.seg");
    let good = fs::read(&path).unwrap();
    let length = u32::from_le_bytes(good[16..20].try_into().unwrap());
    let middle = 24 + usize::try_from(length).unwrap();
    fs::write(
        &path,
        [&good[..16], &good[middle..], &good[16..middle]].concat(),
    )
    .unwrap();
    let found = Log::new().size_of(&folder);
    assert!(matches!(found, Err(FolderError::Damaged { .. })));
}

#[test]
fn the_last_note_is_found_behind_any_number_of_notes() {
    let (folder, _parent) = new_folder();
    let mut writer = write(&folder, 10, 10);
    for size in 10..9_000 {
        if size % 1000 != 0 {
            continue;
        }
        let long = format!(
            "c/control\n{size}\n{}\n\n\u{2014} c x\n",
            "A".repeat(40_000)
        );
        writer.append_checkpoint(&long).unwrap();
        let reader = FolderReader::open(&folder).unwrap();
        assert_eq!(reader.last_checkpoint().unwrap(), Some(long.clone()));
        assert_eq!(reader.checkpoints().unwrap().last().unwrap().unwrap(), long);
        assert_eq!(reader.key_lines(), KEYS);
    }
}
