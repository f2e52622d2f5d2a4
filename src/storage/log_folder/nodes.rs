//! The nodes of a log's tree, from which proofs are made: from the bundles' hashes upwards, from the records below.

use std::collections::VecDeque;

use crate::audit::proof::Nodes;
use crate::audit::tree::{BUNDLE_LEVEL, TreeHash, bundle_hash, leaf_hash};

use super::error::FolderError;
use super::format::{BUNDLE, count, items};
use super::hashes::Hashes;
use super::reader::FolderReader;

/// From this level on the nodes of a log are kept in memory once they are needed: 32 bytes for 65,536 records.
const KEPT_LEVEL: u8 = 16;
/// How many bundles' hashes make a node of that level.
const BUNDLES_PER_KEPT: u64 = 256;
/// Of how many bundles the leaves' hashes are kept.
const KEPT_BUNDLES: usize = 8;

/// Nodes that were computed already. None ever changes: the log only grows.
#[derive(Debug, Default)]
pub(super) struct NodeCache {
    /// The nodes of [`KEPT_LEVEL`], from the first on.
    kept: Vec<TreeHash>,
    /// The hashes of the leaves of some bundles, the one used last in front.
    leaves: VecDeque<(u64, Vec<TreeHash>)>,
}

impl Nodes for FolderReader {
    /// As `hashes` and the records say; none also for what was pruned, cannot be read, or does not fit its bundle's hash.
    fn node(&self, level: u8, index: u64) -> Option<TreeHash> {
        let leaves = 1_u64.checked_shl(level.into())?;
        let first = index.checked_mul(leaves)?;
        if first.checked_add(leaves)? > self.size() {
            return None;
        }
        match level {
            KEPT_LEVEL.. => self.high_node(level - KEPT_LEVEL, index).ok(),
            BUNDLE_LEVEL..KEPT_LEVEL => {
                let bundles = leaves / BUNDLE;
                let hashes = self
                    .hashes
                    .read(index.checked_mul(bundles)?, bundles)
                    .ok()?;
                Some(bundle_hash(&hashes))
            }
            0..BUNDLE_LEVEL => self.low_node(first, leaves),
        }
    }
}

impl FolderReader {
    /// The node `above` levels above the kept ones.
    fn high_node(&self, above: u8, index: u64) -> Result<TreeHash, FolderError> {
        let nodes = 1_u64 << above;
        let range = items(index * nodes)..items((index + 1) * nodes);
        let mut cache = self.cache();
        cache.nodes.keep(&self.hashes, range.end)?;
        let kept = cache.nodes.kept.get(range).unwrap_or_default();
        Ok(bundle_hash(kept))
    }

    /// The node above `number` leaves within one bundle, from the leaf `first` on.
    fn low_node(&self, first: u64, number: u64) -> Option<TreeHash> {
        let start = items(first % BUNDLE);
        let range = start..start.checked_add(items(number))?;
        if first >= self.view.tail.first {
            let records = self.view.tail.records().skip(range.start).take(range.len());
            return Some(bundle_hash(&records.map(leaf_hash).collect::<Vec<_>>()));
        }
        let bundle = first / BUNDLE;
        let mut cache = self.cache();
        let known = cache
            .nodes
            .leaves
            .iter()
            .position(|(kept, _)| *kept == bundle);
        if let Some(at) = known {
            cache.nodes.leaves.swap(0, at);
        } else {
            let records = cache.bundles.read(&self.view.segments, bundle).ok()?;
            let leaves = records.map(leaf_hash).to_vec();
            if self.hashes.read(bundle, 1).ok()? != [bundle_hash(&leaves)] {
                return None;
            }
            cache.nodes.leaves.truncate(KEPT_BUNDLES - 1);
            cache.nodes.leaves.push_front((bundle, leaves));
        }
        let (_, leaves) = cache.nodes.leaves.front()?;
        leaves.get(range).map(bundle_hash)
    }
}

impl NodeCache {
    /// Computes the kept nodes up to `end`, all of whose bundles have their hashes.
    fn keep(&mut self, hashes: &Hashes, end: usize) -> Result<(), FolderError> {
        while self.kept.len() < end {
            let bundle = count(self.kept.len()).saturating_mul(BUNDLES_PER_KEPT);
            let below = hashes.read(bundle, BUNDLES_PER_KEPT)?;
            self.kept.push(bundle_hash(&below));
        }
        Ok(())
    }
}
