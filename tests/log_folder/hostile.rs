//! Folders that somebody made up: any bytes as files end in an error or in records, never in a panic or in endless memory.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use countersign::audit::proof::Nodes;
use countersign::storage::log_folder::{Extent, FolderReader, FolderWriter, prune, recover};
use proptest::prelude::*;

use crate::disk::new_folder;
use crate::logs::{SMALL, append, write};

/// Does everything that can be done with a folder; only panics are wrong.
fn try_everything(folder: &Path) {
    drop(recover(folder, Extent::Everything));
    drop(recover(folder, Extent::LastSegment));
    if let Ok(mut reader) = FolderReader::open(folder) {
        for index in [
            0,
            1,
            255,
            256,
            700,
            reader.size().saturating_sub(1),
            u64::MAX,
        ] {
            drop(reader.record(index));
            drop(reader.bundle(index));
            for level in [0, 1, 7, 8, 9, 15, 16, 17, 40, 63, 64, 255] {
                let _ = reader.node(level, index);
            }
        }
        assert!(reader.records(0, 2_000).count() <= 2_001);
        drop(reader.for_each_bundle(3, 2_000, |_, _| ControlFlow::<()>::Continue(())));
        drop(reader.last_checkpoint());
        drop(reader.checkpoints().map(Iterator::count));
        drop(reader.refresh());
    }
    let last = recover(folder, Extent::LastSegment);
    if let Ok(mut writer) = FolderWriter::reopen(folder, SMALL) {
        // What recovers can be gone on with; earlier segments are not read for that.
        let size = last.unwrap().size;
        append(&mut writer, &[b"one more".to_vec()]).unwrap();
        let now = recover(folder, Extent::LastSegment).unwrap();
        assert_eq!(now.size, size + 1);
    }
    drop(prune(folder, 600));
}

fn file() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "key",
        "hashes",
        "tail",
        "checkpoints",
        "00000000000000000000.seg",
        "00000000000000000512.seg",
        "00000000000000000768.seg",
        "00000000000000000001.seg",
        "72057594037927936.seg",
        "99999999999999999744.seg",
    ])
}

/// A bundle with a right checksum around any bytes.
fn sealed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap();
    [
        &length.to_le_bytes(),
        &crc32c::crc32c(frame).to_le_bytes(),
        frame,
    ]
    .concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_bytes_in_place_of_files_do_no_harm(
        files in prop::collection::vec((file(), prop::collection::vec(any::<u8>(), 0..400), 0..3_usize), 1..4),
    ) {
        let (folder, _parent) = new_folder();
        drop(write(&folder, 800, 300));
        for (name, bytes, how) in files {
            let path = folder.join(name);
            let good = fs::read(&path).unwrap_or_default();
            let keep = match how {
                0 => 0,
                // Behind the header, and behind everything.
                1 => good.len().min(if name == "tail" { 8 } else { 16 }),
                _ => good.len(),
            };
            fs::write(&path, [&good[..keep], &bytes].concat()).unwrap();
        }
        try_everything(&folder);
    }

    #[test]
    fn any_frame_with_a_right_checksum_does_no_harm(frame in prop::collection::vec(any::<u8>(), 0..300), is_zstd in any::<bool>()) {
        let (folder, _parent) = new_folder();
        drop(write(&folder, 800, 300));
        let magic: &[u8] = if is_zstd { &[0x28, 0xb5, 0x2f, 0xfd] } else { &[] };
        let path = folder.join("00000000000000000000.seg");
        let good = fs::read(&path).unwrap();
        fs::write(&path, [&good[..16], &sealed(&[magic, &frame].concat())].concat()).unwrap();
        try_everything(&folder);
    }
}
