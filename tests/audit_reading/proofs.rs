//! Proofs and tiles are right, by our own verifier and by another implementation's.

use std::cell::RefCell;

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::note::SignerKey;
use countersign::audit::proof::{verify_consistency, verify_inclusion};
use countersign::audit::tree::{Frontier, TreeHash, leaf_hash};
use countersign::storage::audit_folder::AuditFolder;
use countersign::usecase::audit_reading::{LogLibrary, ReadError};
use tlog_tiles::tile::{Tile, TileHashReader, TileReader};
use tlog_tiles::tlog;

use crate::support::{Log, ONE, decision, folder};

fn root(leaves: &[Vec<u8>]) -> TreeHash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(leaf_hash(leaf));
    }
    frontier.root()
}

fn open(note: &str, key: &SignerKey) -> Checkpoint {
    let keys = [key.verifier().clone()];
    Checkpoint::open(note, key.verifier().name(), &keys).unwrap()
}

#[test]
fn every_record_is_proved_against_the_newest_checkpoint() {
    let (_root, logs, library) = folder([0, 600, 3]);
    for log in &logs[1..] {
        for record in log.records() {
            let proof = library.inclusion(&log.name, record.index, None).unwrap();
            assert_eq!(proof.leaf, record.leaf);
            let checkpoint = open(&proof.checkpoint.unwrap(), log.key());
            assert_eq!(proof.size, checkpoint.size());
            let leaf = leaf_hash(&record.leaf);
            verify_inclusion(
                &leaf,
                record.index,
                proof.size,
                &proof.hashes,
                checkpoint.root(),
            )
            .unwrap();
        }
    }
}

#[test]
fn any_size_can_be_proved_and_consistency_between_any_two() {
    let (_root, logs, library) = folder([0, 700, 0]);
    let leaves = &logs[1].leaves;
    for size in [1_u64, 2, 255, 256, 257, 512, 699, 700] {
        let at = usize::try_from(size).unwrap();
        let proof = library.inclusion(ONE, size - 1, Some(size)).unwrap();
        let leaf = leaf_hash(&leaves[at - 1]);
        verify_inclusion(&leaf, size - 1, size, &proof.hashes, &root(&leaves[..at])).unwrap();
        assert_eq!(proof.checkpoint.is_some(), size == 700);
        let grown = library.consistency(ONE, size, None).unwrap();
        assert_eq!(grown.new_size, 700);
        verify_consistency(
            size,
            700,
            &grown.hashes,
            &root(&leaves[..at]),
            &root(leaves),
        )
        .unwrap();
    }
    let refused = library.consistency(ONE, 3, Some(2));
    assert!(matches!(refused, Err(ReadError::BadFilter { .. })));
    let refused = library.consistency(ONE, 3, Some(701));
    assert!(matches!(refused, Err(ReadError::NotYet(_))));
}

#[test]
fn what_no_checkpoint_covers_is_not_proved_and_not_in_tiles() {
    let (_root, mut logs, library) = folder([0, 300, 0]);
    let mut log = logs.remove(1);
    log.append(vec![decision(1_700_000_900_000_000, 1)]);
    assert_eq!(library.logs().unwrap()[2].size, 301);
    assert!(matches!(
        library.inclusion(ONE, 300, None),
        Err(ReadError::NotYet(_))
    ));
    assert!(matches!(
        library.tile(ONE, "tile/0/001.p/45"),
        Err(ReadError::NotYet(_))
    ));
    assert!(matches!(
        library.entries(ONE, "tile/entries/001.p/45"),
        Err(ReadError::NotYet(_))
    ));
    let first = library.inclusion(ONE, 0, Some(300)).unwrap().checkpoint;
    log.sign();
    assert!(library.inclusion(ONE, 300, None).is_ok());
    assert_eq!(library.tile(ONE, "tile/0/001.p/45").unwrap().len(), 45 * 32);
    assert!(library.entries(ONE, "tile/entries/001.p/45").is_ok());
    // The earlier checkpoint is still found by its size.
    assert_eq!(
        library.inclusion(ONE, 0, Some(300)).unwrap().checkpoint,
        first
    );
    assert!(first.is_some());
    let empty = library.checkpoint("control");
    assert!(empty.is_ok());
    assert!(matches!(
        library.record(ONE, 301),
        Err(ReadError::NoSuchRecord { .. })
    ));
}

/// Our tiles as another implementation reads them.
struct Tiles<'a> {
    library: &'a AuditFolder,
    read: RefCell<Vec<String>>,
}

impl TileReader for Tiles<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        let bytes = tiles.iter().map(|tile| {
            // The crate writes Go's form, with the height; tlog-tiles leaves it out.
            let path = tile.path().replacen("tile/8/", "tile/", 1);
            self.read.borrow_mut().push(path.clone());
            self.library.tile(ONE, &path).unwrap()
        });
        Ok(bytes.collect())
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

#[test]
fn another_implementation_proves_records_from_our_tiles() {
    for size in [1_u64, 5, 256, 300, 1_000, 66_000] {
        let (_root, logs, library) = folder([0, size, 0]);
        let checkpoint = open(&library.checkpoint(ONE).unwrap(), logs[1].key());
        let tree = tlog::Hash(*checkpoint.root().as_bytes());
        let tiles = Tiles {
            library: &library,
            read: RefCell::default(),
        };
        let hashes = TileHashReader::new(size, tree, &tiles);
        for index in [0, size / 3, size / 2, size - 1] {
            let proof = tlog::prove_record(size, index, &hashes).unwrap();
            let leaf = &logs[1].leaves[usize::try_from(index).unwrap()];
            tlog::check_record(&proof, size, tree, index, tlog::record_hash(leaf)).unwrap();
            let ours = library.inclusion(ONE, index, None).unwrap().hashes;
            let theirs: Vec<_> = proof.iter().map(|hash| TreeHash::from(hash.0)).collect();
            assert_eq!(ours, theirs);
        }
        assert!(!tiles.read.borrow().is_empty() || size == 1);
    }
}

#[test]
fn entries_hold_the_records_with_their_lengths() {
    let (_root, logs, library) = folder([0, 300, 0]);
    let mut bytes = library.entries(ONE, "tile/entries/000").unwrap();
    bytes.extend(library.entries(ONE, "tile/entries/001.p/44").unwrap());
    let mut rest = bytes.as_slice();
    for leaf in &logs[1].leaves {
        let (length, behind) = rest.split_at(2);
        let length = usize::from(u16::from_be_bytes(length.try_into().unwrap()));
        assert_eq!(&behind[..length], leaf);
        rest = &behind[length..];
    }
    assert!(rest.is_empty());
    for wrong in [
        "tile/entries/1",
        "tile/0/000",
        "tile/entries/",
        "checkpoint",
    ] {
        let refused = library.entries(ONE, wrong);
        assert!(
            matches!(refused, Err(ReadError::BadFilter { .. })),
            "{wrong}"
        );
    }
}

#[test]
fn a_log_without_a_checkpoint_says_so() {
    let root = tempfile::tempdir().unwrap();
    Log::create(root.path(), ONE).append(vec![decision(1_700_000_000_000_000, 0)]);
    let library = AuditFolder::open(root.path()).unwrap();
    assert!(matches!(library.checkpoint(ONE), Err(ReadError::NotYet(_))));
    assert!(matches!(
        library.tile(ONE, "tile/0/000.p/1"),
        Err(ReadError::NotYet(_))
    ));
    assert!(matches!(
        library.checkpoint("control"),
        Err(ReadError::NoSuchLog(_))
    ));
}
