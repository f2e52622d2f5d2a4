//! Paths and contents of tiles are those of `tlog_tiles`, and both refuse the same paths.

use std::panic::catch_unwind;

use countersign::audit::tile::{EntriesTile, Tile, entries_bytes, tile_bytes};
use proptest::prelude::*;

use crate::support::{Trees, leaf};

/// Our path as `tlog_tiles` writes it: with the height, and with another word for entries.
fn with_height(path: &str) -> String {
    match path.strip_prefix("tile/entries/") {
        Some(place) => format!("tile/8/data/{place}"),
        None => path.replacen("tile/", "tile/8/", 1),
    }
}

/// What `tlog_tiles` reads; it panics at a level above 63 and a width of 0, which is a refusal too.
fn their_tile(path: &str) -> Option<tlog_tiles::Tile> {
    let path = with_height(path);
    catch_unwind(|| tlog_tiles::Tile::from_path(&path).ok())
        .ok()
        .flatten()
}

/// Checks that both read the same from `path`, or both nothing.
fn check_path(path: &str) {
    let theirs = their_tile(path);
    let hashes = theirs.filter(|tile| !tile.is_data());
    let hashes = hashes.map(|tile| (tile.level(), tile.level_index(), tile.width()));
    let ours = path.parse::<Tile>().ok();
    let ours = ours.map(|tile| (tile.level(), tile.index(), u32::from(tile.width())));
    assert_eq!(ours, hashes, "{path:?}");
    let entries = theirs.filter(|tile| tile.is_data() && !path.starts_with("tile/data/"));
    let entries = entries.map(|tile| (tile.level_index(), tile.width()));
    let ours = path.parse::<EntriesTile>().ok();
    let ours = ours.map(|tile| (tile.index(), u32::from(tile.width())));
    assert_eq!(ours, entries, "{path:?}");
}

#[test]
fn paths_are_the_same() {
    let powers = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]);
    let tens = (0..20).flat_map(|digits| [10_u64.pow(digits) - 1, 10_u64.pow(digits)]);
    let indexes = powers.chain(tens).chain([u64::MAX]).chain(0..2000);
    let mut count = 0;
    for index in indexes {
        for width in [1, 2, 9, 10, 99, 100, 255, 256] {
            for level in [0, 1, 7, 9, 10, 63] {
                let ours = Tile::new(level, index, width).unwrap();
                let theirs = tlog_tiles::Tile::new(8, level, index, width.into(), false);
                assert_eq!(with_height(&ours.to_string()), theirs.path());
                assert_eq!(ours.to_string().parse(), Ok(ours));
                count += 1;
            }
            let ours = EntriesTile::new(index, width).unwrap();
            let theirs = tlog_tiles::Tile::new(8, 0, index, width.into(), true);
            assert_eq!(with_height(&ours.to_string()), theirs.path());
            assert_eq!(ours.to_string().parse(), Ok(ours));
            count += 1;
        }
    }
    println!("{count} paths");
}

/// What may stand where the index is written, and what may not.
const PLACES: &[&str] = &[
    "000",
    "067",
    "67",
    "0067",
    "x000/067",
    "x001/067",
    "x001/x234/067",
    "x01/067",
    "x001/67",
    "1000",
    "x1000/000",
    "xx001/067",
    "x001/x067",
    "001/067",
    "x001//067",
    "",
    "/",
    "x",
    ".p",
    ".p/1",
    "067.p",
    "067.p/",
    "067.p/0",
    "067.p/00",
    "067.p/1",
    "067.p/01",
    "067.p/+1",
    "067.p/-1",
    "067.p/255",
    "067.p/256",
    "067.p/257",
    "067.p/65537",
    "067.p/1/",
    "067.p/1.p/1",
    "067.P/1",
    "067.p/1 ",
    " 067",
    "067 ",
    "067\n",
    "067\0",
    "+67",
    "-67",
    "-067",
    "+067",
    "x+01/067",
    "٠٦٧",
    "../067",
    "067/..",
    "067/.",
    "067?x",
    "067#",
    "067%2ep/1",
    "x018/x446/x744/x073/x709/x551/615",
    "x018/x446/x744/x073/x709/x551/615.p/255",
    "x018/x446/x744/x073/x709/x551/616",
    "x999/x999/x999/x999/x999/x999/999",
    "x001/x000/x000/x000/x000/x000/x000/x000/000",
    "x000/x000/000",
];

/// What may stand where the level is written, and what may not.
const LEVELS: &[&str] = &[
    "0", "1", "7", "8", "9", "10", "63", "64", "255", "256", "00", "01", "+1", "-1", "", "x",
    "data", "entries", "Entries", "0x1",
];

#[test]
fn hostile_paths_are_read_as_tlog_tiles_reads_them() {
    for level in LEVELS {
        for place in PLACES {
            check_path(&format!("tile/{level}/{place}"));
            check_path(&format!("/tile/{level}/{place}"));
            check_path(&format!("tile/{level}{place}"));
            check_path(&format!("Tile/{level}/{place}/"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_paths_are_read_alike(path in "tile/([0-9]{1,3}|entries)/(x[0-9]{3}/){0,6}[0-9]{2,4}(\\.p/[0-9]{1,3})?") {
        check_path(&path);
    }

    #[test]
    fn paths_with_one_character_changed_are_read_alike(
        (index, width, level) in (any::<u64>(), 1_u16..=256, 0_u8..64),
        (shift, at, with) in (0_u32..64, any::<prop::sample::Index>(), "[0-9x./p+ -]"),
    ) {
        let tile = Tile::new(level, index >> shift, width).unwrap();
        let entries = EntriesTile::new(index >> shift, width).unwrap();
        for path in [tile.to_string(), entries.to_string()] {
            check_path(&path);
            let (before, rest) = path.split_at(at.index(path.len()));
            let (_, behind) = rest.split_at(1);
            check_path(&format!("{before}{with}{behind}"));
            check_path(&format!("{before}{behind}"));
            check_path(&format!("{before}{with}{rest}"));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(path in "\\PC{0,60}") {
        check_path(&path);
    }
}

#[test]
fn tiles_hold_the_same_hashes() {
    const SIZE: u64 = 66_500;
    let mut trees = Trees::of(SIZE);
    trees.roots.clear();
    let mut count = 0;
    for size in [1, 255, 256, 257, 511, 4096, 65_535, 65_536, 65_537, SIZE] {
        for theirs in tlog_tiles::Tile::new_tiles(8, size.saturating_sub(600), size) {
            let ours = Tile::at(theirs.level(), theirs.level_index(), size).unwrap();
            assert_eq!(u32::from(ours.width()), theirs.width());
            assert_eq!(with_height(&ours.to_string()), theirs.path());
            let bytes = tile_bytes(&trees.levels, &ours).unwrap();
            assert_eq!(bytes, theirs.read_data(&trees.stored).unwrap());
            count += 1;
        }
    }
    assert_eq!(Tile::at(0, SIZE / 256 + 1, SIZE), None);
    let beyond = Tile::new(0, SIZE / 256, 256).unwrap();
    assert_eq!(tile_bytes(&trees.levels, &beyond), None);
    let nowhere = Tile::new(63, u64::MAX, 256).unwrap();
    assert_eq!(tile_bytes(&trees.levels, &nowhere), None);
    println!("{count} tiles");
}

#[test]
fn entries_read_back_one_by_one() {
    let tile = EntriesTile::at(1, 300).unwrap();
    let records: Vec<Vec<u8>> = tile.records().unwrap().map(leaf).collect();
    let bytes = entries_bytes(records.iter().map(Vec::as_slice)).unwrap();
    let mut rest = &bytes[..];
    for record in &records {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        assert_eq!(rest[2..2 + length], record[..]);
        rest = &rest[2 + length..];
    }
    assert_eq!((rest.len(), records.len()), (0, 44));
}
