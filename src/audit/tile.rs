//! Tiles: the log as static files of 256 hashes or 256 records, with the paths and contents of C2SP tlog-tiles.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::proof::Nodes;
use super::tree::{BUNDLE_LEAVES, BUNDLE_LEVEL, TreeHash};

/// How many hashes or records a full tile has.
const FULL_WIDTH: u16 = 256;
/// The highest level that a path can name.
const MAX_LEVEL: u8 = 63;
/// No path of a tile is longer than this: seven elements say an index of 64 bits.
const MAX_PATH_BYTES: usize = 56;

/// A text that is not the one path of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the path of a tile")]
pub struct NotATile;

/// A record that no entries tile can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {length} bytes is too long for a tile, which takes up to 65535")]
pub struct RecordTooLong {
    /// How many bytes it has.
    pub length: usize,
}

/// A tile of hashes: those of 256 neighbours in the tree's level 8 * `level`, or of the first `width` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// The tile of `width` hashes at `index` in the tiles' level `level`; none unless the level is at most 63 and the width
    /// from 1 to 256.
    pub fn new(level: u8, index: u64, width: u16) -> Option<Self> {
        let is_tile = level <= MAX_LEVEL && (1..=FULL_WIDTH).contains(&width);
        is_tile.then_some(Self {
            level,
            index,
            width,
        })
    }

    /// The tile there, as wide as it is when the tree has `size` leaves; none if it has no hash yet.
    pub fn at(level: u8, index: u64, size: u64) -> Option<Self> {
        let shift = u32::from(BUNDLE_LEVEL).checked_mul(u32::from(level))?;
        let hashes = size.checked_shr(shift)?;
        Self::new(level, index, width_at(index, hashes)?)
    }

    /// The level in levels of tiles; 0 is the one of the leaves.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The index in the level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes it has: 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        write_place(f, self.index, self.width)
    }
}

impl FromStr for Tile {
    type Err = NotATile;

    fn from_str(path: &str) -> Result<Self, NotATile> {
        let (level, place) = after_tile(path)?;
        let level = level.parse().map_err(|_| NotATile)?;
        let (index, width) = read_place(place)?;
        let tile = Self::new(level, index, width).ok_or(NotATile)?;
        // Reading is lenient with zeros and signs; only the one path that would be written passes.
        (tile.to_string() == path).then_some(tile).ok_or(NotATile)
    }
}

/// A tile of records: 256 neighbours, or the first `width` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntriesTile {
    index: u64,
    width: u16,
}

impl EntriesTile {
    /// The tile of `width` records at `index`; none unless the width is from 1 to 256.
    pub fn new(index: u64, width: u16) -> Option<Self> {
        let is_tile = (1..=FULL_WIDTH).contains(&width);
        is_tile.then_some(Self { index, width })
    }

    /// The tile there, as wide as it is when the tree has `size` leaves; none if it has no record yet.
    pub fn at(index: u64, size: u64) -> Option<Self> {
        Self::new(index, width_at(index, size)?)
    }

    /// The index among the tiles of records.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many records it has: 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// The indexes of its records; none if they are beyond 2^64.
    pub fn records(&self) -> Option<Range<u64>> {
        let first = self.index.checked_mul(BUNDLE_LEAVES)?;
        Some(first..first.checked_add(u64::from(self.width))?)
    }
}

impl fmt::Display for EntriesTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_place(f, self.index, self.width)
    }
}

impl FromStr for EntriesTile {
    type Err = NotATile;

    fn from_str(path: &str) -> Result<Self, NotATile> {
        let ("entries", place) = after_tile(path)? else {
            return Err(NotATile);
        };
        let (index, width) = read_place(place)?;
        let tile = Self::new(index, width).ok_or(NotATile)?;
        (tile.to_string() == path).then_some(tile).ok_or(NotATile)
    }
}

/// The content of `tile`: its hashes one after the other. None if `nodes` does not know one of them.
pub fn tile_bytes(nodes: &(impl Nodes + ?Sized), tile: &Tile) -> Option<Vec<u8>> {
    let level = tile.level.checked_mul(BUNDLE_LEVEL)?;
    let first = tile.index.checked_mul(u64::from(FULL_WIDTH))?;
    let mut bytes = Vec::with_capacity(usize::from(tile.width).saturating_mul(TreeHash::BYTES));
    for offset in 0..tile.width {
        let node = nodes.node(level, first.checked_add(u64::from(offset))?)?;
        bytes.extend_from_slice(node.as_bytes());
    }
    Some(bytes)
}

/// The content of the tile of `records`: each with its length before it, in two bytes, big endian.
///
/// # Errors
///
/// [`RecordTooLong`] if a record has more than 65535 bytes.
pub fn entries_bytes<'r>(
    records: impl IntoIterator<Item = &'r [u8]>,
) -> Result<Vec<u8>, RecordTooLong> {
    let mut bytes = Vec::new();
    for record in records {
        let length = record.len();
        let prefix = u16::try_from(length).map_err(|_| RecordTooLong { length })?;
        bytes.extend_from_slice(&prefix.to_be_bytes());
        bytes.extend_from_slice(record);
    }
    Ok(bytes)
}

/// How wide tile `index` is when there are `items` hashes or records in its level; none if it is not there yet.
fn width_at(index: u64, items: u64) -> Option<u16> {
    let first = index.checked_mul(u64::from(FULL_WIDTH))?;
    let behind = items.checked_sub(first)?.min(u64::from(FULL_WIDTH));
    u16::try_from(behind).ok().filter(|width| *width > 0)
}

/// Writes `x001/x234/067` for 1234067, and `.p/5` behind it if only five of 256 are there.
fn write_place(f: &mut fmt::Formatter<'_>, index: u64, width: u16) -> fmt::Result {
    let mut elements = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        elements.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    elements.reverse();
    f.write_str(&elements.join("/"))?;
    if width == FULL_WIDTH {
        return Ok(());
    }
    write!(f, ".p/{width}")
}

/// Parts a path behind `tile/` and behind the element that follows it.
fn after_tile(path: &str) -> Result<(&str, &str), NotATile> {
    let is_short = path.len() <= MAX_PATH_BYTES;
    let rest = path.strip_prefix("tile/").filter(|_| is_short);
    rest.and_then(|rest| rest.split_once('/')).ok_or(NotATile)
}

/// Reads what [`write_place`] writes, and some more.
fn read_place(text: &str) -> Result<(u64, u16), NotATile> {
    let (elements, width) = match text.split_once(".p/") {
        Some((elements, width)) => (elements, width.parse().map_err(|_| NotATile)?),
        None => (text, FULL_WIDTH),
    };
    let mut index = 0_u64;
    for element in elements.split('/') {
        let digits = element.strip_prefix('x').unwrap_or(element);
        let digits: u16 = digits.parse().map_err(|_| NotATile)?;
        let above = index.checked_mul(1000);
        let next = above.and_then(|above| above.checked_add(u64::from(digits)));
        index = next.ok_or(NotATile)?;
    }
    Ok((index, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_and_written_in_one_way() {
        let tile = Tile::new(3, 1_234_067, 5).unwrap();
        assert_eq!(tile.to_string(), "tile/3/x001/x234/067.p/5");
        assert_eq!(tile.to_string().parse(), Ok(tile));
        let entries = EntriesTile::new(67, 256).unwrap();
        assert_eq!(entries.to_string(), "tile/entries/067");
        assert_eq!(entries.to_string().parse(), Ok(entries));
        for wrong in [
            "tile/0/67",
            "tile/0/0067",
            "tile/0/x000/067",
            "tile/00/067",
            "tile/64/067",
            "tile/0/067.p/256",
            "tile/0/067.p/0",
            "tile/0/067.p/01",
            "tile/+0/067",
            "tile/0/067/",
            "/tile/0/067",
            "tile/0/x067",
            "tile/0/001/067",
            "tile/0/067.p/5.p/5",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/",
            "tile/-1/000",
        ] {
            assert_eq!(wrong.parse::<Tile>(), Err(NotATile), "{wrong}");
            let entries = wrong.replacen("tile/0/", "tile/entries/", 1);
            assert_eq!(entries.parse::<EntriesTile>(), Err(NotATile), "{entries}");
        }
        assert!(
            "tile/63/x018/x446/x744/x073/x709/x551/615.p/255"
                .parse::<Tile>()
                .is_ok()
        );
    }

    #[test]
    fn a_tile_is_as_wide_as_the_tree_allows() {
        let widths = |level, index, size| Tile::at(level, index, size).map(|tile| tile.width());
        assert_eq!(widths(0, 0, 0), None);
        assert_eq!(widths(0, 0, 1), Some(1));
        assert_eq!(widths(0, 0, 256), Some(256));
        assert_eq!(widths(0, 1, 256), None);
        assert_eq!(widths(0, 1, 300), Some(44));
        assert_eq!(widths(1, 0, 255), None);
        assert_eq!(widths(1, 0, 70_000), Some(256));
        assert_eq!(widths(2, 0, 70_000), Some(1));
        assert_eq!(widths(7, 0, u64::MAX), Some(255));
        assert_eq!(widths(8, 0, u64::MAX), None);
        assert_eq!(widths(63, u64::MAX, u64::MAX), None);
        let entries = EntriesTile::at(1, 300).unwrap();
        assert_eq!(entries.records(), Some(256..300));
        assert_eq!(EntriesTile::new(u64::MAX, 1).unwrap().records(), None);
    }

    #[test]
    fn records_are_written_with_their_lengths() {
        let bytes = entries_bytes([&b"ab"[..], b"", &[7; 258]]).unwrap();
        assert_eq!(bytes[..8], [0, 2, b'a', b'b', 0, 0, 1, 2]);
        assert_eq!(bytes.len(), 2 + 2 + 2 + 2 + 258);
        let long = vec![0; 65_536];
        assert!(entries_bytes([&long[..65_535]]).is_ok());
        let refused = entries_bytes([&long[..]]);
        assert_eq!(refused, Err(RecordTooLong { length: 65_536 }));
    }
}
