//! Logs to test with: records that are told from their index, and what a folder must hold of them.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use countersign::audit::proof;
use countersign::audit::tree::{Frontier, TreeHash, leaf_hash};
use countersign::storage::log_folder::{
    Extent, FolderError, FolderReader, FolderSettings, FolderWriter, Recovered, RoundOutcome,
    recover,
};

/// Segments of two or three bundles, and reservations that are raised every few rounds.
pub(crate) const SMALL: FolderSettings = FolderSettings {
    segment_bytes: 9_000,
    segment_age: Duration::from_secs(3600),
    reserve: 150,
};
pub(crate) const KEYS: &str = "c/control+00000000+AAAA\n";
pub(crate) const NOW: Duration = Duration::from_secs(7);

/// The record `index` of a log that is called by a number, of 8 to 40 bytes.
pub(crate) fn record(log: u64, index: u64) -> Vec<u8> {
    let hash = leaf_hash(&[log.to_le_bytes(), index.to_le_bytes()].concat());
    let length = 8 + usize::from(hash.as_bytes()[0] % 33);
    hash.as_bytes().repeat(2)[..length].to_vec()
}

pub(crate) fn records(log: u64, from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|index| record(log, index)).collect()
}

/// The roots of the trees over the first 0, 1, 2, … of `records`.
pub(crate) fn roots(records: &[Vec<u8>]) -> Vec<TreeHash> {
    let mut frontier = Frontier::new();
    let mut roots = vec![frontier.root()];
    for record in records {
        frontier.push(leaf_hash(record));
        roots.push(frontier.root());
    }
    roots
}

pub(crate) fn append(
    writer: &mut FolderWriter,
    records: &[Vec<u8>],
) -> Result<RoundOutcome, FolderError> {
    writer.append_round(records.iter().map(Vec::as_slice), NOW)
}

pub(crate) fn note(size: u64) -> String {
    format!("c/control\n{size}\nAAAA\n\n\u{2014} c/control {size}\n")
}

/// A log of the records of log 0 in rounds of `round`, with a checkpoint after each round.
pub(crate) fn write(folder: &Path, size: u64, round: u64) -> FolderWriter {
    let mut writer = FolderWriter::create(folder, KEYS, SMALL).unwrap();
    let mut from = 0;
    while from < size {
        let to = size.min(from + round);
        append(&mut writer, &records(0, from, to)).unwrap();
        writer.append_checkpoint(&note(to)).unwrap();
        from = to;
    }
    writer
}

/// Checks that the folder holds exactly the first so many of `records`, and answers what recovery says.
pub(crate) fn check_prefix(folder: &Path, records: &[Vec<u8>], roots: &[TreeHash]) -> Recovered {
    let recovered = recover(folder, Extent::Everything).unwrap();
    assert_eq!(recover(folder, Extent::LastSegment).unwrap(), recovered);
    let size = usize::try_from(recovered.size).unwrap();
    assert!(size <= records.len(), "{size} of {} records", records.len());
    assert_eq!(
        (recovered.root, recovered.frontier.root()),
        (roots[size], roots[size])
    );
    let reader = FolderReader::open(folder).unwrap();
    assert_eq!(reader.size(), recovered.size);
    assert_eq!(all(&reader), records[..size]);
    if reader.first_index() == 0 {
        assert_eq!(proof::root(&reader, recovered.size).unwrap(), roots[size]);
    }
    recovered
}

/// Every record that the reader shows, bundle by bundle.
pub(crate) fn all(reader: &FolderReader) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let shown = reader.for_each_bundle(reader.first_index(), u64::MAX, |_, records| {
        all.extend(records.iter().map(|record| record.to_vec()));
        ControlFlow::<()>::Continue(())
    });
    assert!(shown.unwrap().is_continue());
    all
}
