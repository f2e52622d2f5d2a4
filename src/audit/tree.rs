//! The log's Merkle tree: the hashes of RFC 6962, and the frontier from which the next root follows.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest as _, Sha256};

/// How many leaves a bundle has.
pub const BUNDLE_LEAVES: u64 = 256;
/// The level of a bundle's hash: a full subtree of 2^8 leaves.
pub const BUNDLE_LEVEL: u8 = 8;
/// The root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: TreeHash = TreeHash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// No frontier is read that has more leaves than this: what is left up to 2^64 can never be filled by pushing.
const MAX_LEAVES: u64 = 1 << 62;

/// A hash of the tree: of a leaf, of an inner node or its root. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeHash([u8; 32]);

impl TreeHash {
    /// How many bytes a hash has.
    pub const BYTES: usize = 32;

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its bytes in base64 with padding: 44 characters, as a checkpoint has them.
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// Reads what [`Self::to_base64`] writes; none for any other text.
    pub fn from_base64(text: &str) -> Option<Self> {
        if text.len() != 44 {
            return None;
        }
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl From<[u8; 32]> for TreeHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}

/// The hash of the leaf whose bytes are `leaf`.
pub fn leaf_hash(leaf: &[u8]) -> TreeHash {
    let hasher = Sha256::new_with_prefix([0]).chain_update(leaf);
    TreeHash(hasher.finalize().into())
}

/// The hash of the node above `left` and `right`.
pub fn node_hash(left: &TreeHash, right: &TreeHash) -> TreeHash {
    let hasher = Sha256::new_with_prefix([1])
        .chain_update(left.0)
        .chain_update(right.0);
    TreeHash(hasher.finalize().into())
}

/// The root of exactly these leaves, given by their hashes; with [`BUNDLE_LEAVES`] of them the hash of a bundle.
pub fn bundle_hash(leaves: &[TreeHash]) -> TreeHash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The root above full subtrees that stand side by side, the largest first.
pub(super) fn root_above(subtrees: &[TreeHash]) -> TreeHash {
    let from_right = subtrees.iter().rev().copied();
    from_right
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or(EMPTY_ROOT)
}

/// What does not fit a frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// A bundle was pushed behind a part of one.
    #[error("a bundle cannot follow {size} leaves, which end within one")]
    WithinBundle {
        /// How many leaves there are.
        size: u64,
    },
    /// There are too few or too many bytes for the size they begin with, or for a size.
    #[error("{length} bytes are not a frontier")]
    WrongLength {
        /// How many bytes there are.
        length: usize,
    },
    /// The size is beyond what a log can reach.
    #[error("a frontier of {size} leaves is too large")]
    TooLarge {
        /// How many leaves it says there are.
        size: u64,
    },
}

/// The right edge of a growing tree: its size, and the hashes of the full subtrees it consists of, the largest first.
///
/// INVARIANT (one-per-bit): there is one hash for each bit set in `size`, so at most 62.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<TreeHash>,
}

impl Frontier {
    /// The frontier of the tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf, given by its hash.
    pub fn push(&mut self, leaf: TreeHash) {
        self.append(leaf, 0);
    }

    /// Appends [`BUNDLE_LEAVES`] leaves, given by the hash of level [`BUNDLE_LEVEL`] above them.
    ///
    /// # Errors
    ///
    /// [`FrontierError::WithinBundle`] if the size is not a multiple of [`BUNDLE_LEAVES`]; the frontier is then as it was.
    pub fn push_bundle(&mut self, bundle: TreeHash) -> Result<(), FrontierError> {
        if !self.size.is_multiple_of(BUNDLE_LEAVES) {
            return Err(FrontierError::WithinBundle { size: self.size });
        }
        self.append(bundle, BUNDLE_LEVEL);
        Ok(())
    }

    /// Appends a full subtree of 2^`level` leaves; the size is a multiple of that.
    fn append(&mut self, subtree: TreeHash, level: u8) {
        let before = self.size >> level;
        let mut merged = subtree;
        // Each bit that the addition carries over is a pair that is now full; one-per-bit says there is a hash to pop.
        for _ in 0..before.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                merged = node_hash(&left, &merged);
            }
        }
        self.subtrees.push(merged);
        // Cannot saturate: nobody pushes 2^62 leaves on top of MAX_LEAVES.
        self.size = before.saturating_add(1) << level;
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> TreeHash {
        root_above(&self.subtrees)
    }

    /// The size in eight bytes, little endian, then the hashes of the subtrees, the largest first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_le_bytes().to_vec();
        bytes.extend(self.subtrees.iter().flat_map(TreeHash::as_bytes));
        bytes
    }

    /// Reads what [`Self::to_bytes`] writes.
    ///
    /// # Errors
    ///
    /// [`FrontierError::WrongLength`] unless there is exactly one hash for each bit set in the size, and
    /// [`FrontierError::TooLarge`] for more than 2^62 leaves.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let wrong_length = FrontierError::WrongLength {
            length: bytes.len(),
        };
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(wrong_length)?;
        let size = u64::from_le_bytes(*size);
        if size > MAX_LEAVES {
            return Err(FrontierError::TooLarge { size });
        }
        let (hashes, odd) = rest.as_chunks::<{ TreeHash::BYTES }>();
        let is_one_per_bit = u32::try_from(hashes.len()) == Ok(size.count_ones());
        if !is_one_per_bit || !odd.is_empty() {
            return Err(wrong_length);
        }
        let subtrees = hashes.iter().copied().map(TreeHash).collect();
        Ok(Self { size, subtrees })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<TreeHash> {
        (0..count).map(|at| leaf_hash(&at.to_le_bytes())).collect()
    }

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        let hash: [u8; 32] = Sha256::digest([]).into();
        assert_eq!(Frontier::new().root(), TreeHash(hash));
    }

    #[test]
    fn bundles_give_the_root_that_their_leaves_give() {
        let (mut by_leaf, mut by_bundle) = (Frontier::new(), Frontier::new());
        for bundle in leaves(256 * 9).chunks(256) {
            for leaf in bundle {
                by_leaf.push(*leaf);
            }
            by_bundle.push_bundle(bundle_hash(bundle)).unwrap();
            assert_eq!(by_leaf, by_bundle);
        }
    }

    #[test]
    fn a_bundle_is_refused_within_a_bundle() {
        let mut frontier = Frontier::new();
        frontier.push(EMPTY_ROOT);
        let before = frontier.clone();
        let refused = frontier.push_bundle(EMPTY_ROOT);
        assert_eq!(refused, Err(FrontierError::WithinBundle { size: 1 }));
        assert_eq!(frontier, before);
    }

    #[test]
    fn a_frontier_reads_back_and_nothing_else_does() {
        let mut frontier = Frontier::new();
        for leaf in leaves(300) {
            let bytes = frontier.to_bytes();
            assert_eq!(Frontier::from_bytes(&bytes), Ok(frontier.clone()));
            for wrong in [
                &bytes[1..],
                &bytes[..bytes.len() - 1],
                &[&bytes[..], &[0; 32]].concat(),
            ] {
                assert!(Frontier::from_bytes(wrong).is_err());
            }
            frontier.push(leaf);
        }
        for size in [MAX_LEAVES + 1, u64::MAX] {
            let hashes = usize::try_from(size.count_ones()).unwrap();
            let huge = [size.to_le_bytes().to_vec(), vec![0; hashes * 32]].concat();
            let refused = Frontier::from_bytes(&huge);
            assert_eq!(refused, Err(FrontierError::TooLarge { size }));
        }
    }

    #[test]
    fn a_full_frontier_still_takes_leaves() {
        let bytes = [MAX_LEAVES.to_le_bytes().to_vec(), vec![7; 32]].concat();
        let mut frontier = Frontier::from_bytes(&bytes).unwrap();
        frontier.push_bundle(EMPTY_ROOT).unwrap();
        frontier.push(EMPTY_ROOT);
        assert_eq!(frontier.size(), MAX_LEAVES + 257);
    }

    #[test]
    fn a_hash_reads_back_from_its_base64_alone() {
        let text = EMPTY_ROOT.to_base64();
        assert_eq!(TreeHash::from_base64(&text), Some(EMPTY_ROOT));
        for wrong in [
            "",
            "A",
            text.trim_end_matches('='),
            &format!("{text}="),
            &format!("{text}\n"),
            &text.replace("U=", "V="),
        ] {
            assert_eq!(TreeHash::from_base64(wrong), None, "{wrong}");
        }
    }
}
