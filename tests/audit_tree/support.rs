//! Trees to compare: the same leaves in ours, in ct-merkle and in `tlog_tiles`.

use countersign::audit::proof::Nodes;
use countersign::audit::tree::{Frontier, TreeHash, leaf_hash, node_hash};
use sha2::Sha256;
use tlog_tiles::{Hash, HashReader};

/// Every full subtree of a growing tree, kept in memory.
#[derive(Default)]
pub(crate) struct Levels(Vec<Vec<TreeHash>>);

impl Levels {
    pub(crate) fn push(&mut self, leaf: TreeHash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.0.len() == level {
                self.0.push(Vec::new());
            }
            let nodes = &mut self.0[level];
            nodes.push(hash);
            let [.., left, right] = nodes[..] else { return };
            if nodes.len() % 2 == 1 {
                return;
            }
            hash = node_hash(&left, &right);
        }
    }
}

impl Nodes for Levels {
    fn node(&self, level: u8, index: u64) -> Option<TreeHash> {
        let nodes = self.0.get(usize::from(level))?;
        nodes.get(usize::try_from(index).ok()?).copied()
    }
}

/// What `tlog_tiles` calls stored hashes.
#[derive(Default)]
pub(crate) struct Stored(Vec<Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let hash = |index: &u64| self.0[usize::try_from(*index).unwrap()];
        Ok(indexes.iter().map(hash).collect())
    }
}

/// The same leaves three times.
#[derive(Default)]
pub(crate) struct Trees {
    pub(crate) size: u64,
    pub(crate) frontier: Frontier,
    pub(crate) levels: Levels,
    pub(crate) ct: ct_merkle::mem_backed_tree::MemoryBackedTree<Sha256, Vec<u8>>,
    pub(crate) stored: Stored,
    /// Our roots, by size.
    pub(crate) roots: Vec<TreeHash>,
}

impl Trees {
    pub(crate) fn new() -> Self {
        let mut trees = Self::default();
        trees.roots.push(trees.frontier.root());
        trees
    }

    pub(crate) fn of(size: u64) -> Self {
        let mut trees = Self::new();
        (0..size).for_each(|_| trees.grow());
        trees
    }

    /// Adds the next leaf to each of them.
    pub(crate) fn grow(&mut self) {
        let leaf = leaf(self.size);
        let more = tlog_tiles::stored_hashes(self.size, &leaf, &self.stored).unwrap();
        self.stored.0.extend(more);
        self.frontier.push(leaf_hash(&leaf));
        self.levels.push(leaf_hash(&leaf));
        self.ct.push(leaf);
        self.size += 1;
        self.roots.push(self.frontier.root());
    }

    pub(crate) fn root(&self, size: u64) -> TreeHash {
        self.roots[usize::try_from(size).unwrap()]
    }
}

/// The bytes of leaf `index`; of many lengths, none among them.
pub(crate) fn leaf(index: u64) -> Vec<u8> {
    let byte = index.to_le_bytes()[0];
    let mut leaf = vec![byte; usize::try_from(index * 7 % 321).unwrap()];
    if index > 0 {
        leaf.extend(index.to_le_bytes());
    }
    leaf
}

/// Our hash as `tlog_tiles` has it.
pub(crate) fn theirs(hash: &TreeHash) -> Hash {
    Hash(*hash.as_bytes())
}

pub(crate) fn all_theirs(hashes: &[TreeHash]) -> Vec<Hash> {
    hashes.iter().map(theirs).collect()
}

/// The bytes of all hashes, one after the other.
pub(crate) fn concat(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}
