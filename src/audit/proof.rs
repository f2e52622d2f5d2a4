//! Proofs over the log's tree, made and checked: that a leaf is in it, and that a later tree only added to an earlier one.
//!
//! The proofs are those of RFC 9162, 2.1.3 and 2.1.4, the hashes from the leaves up.

use super::tree::{EMPTY_ROOT, TreeHash, node_hash, root_above};

/// Where the hashes of a tree come from.
pub trait Nodes {
    /// The hash of the full subtree of 2^`level` leaves that begins at leaf `index` * 2^`level`; none if it is not known.
    fn node(&self, level: u8, index: u64) -> Option<TreeHash>;
}

/// Why there is no proof, or why one proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The tree has no such leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    NoSuchLeaf {
        /// The leaf asked for.
        index: u64,
        /// How many leaves the tree has.
        size: u64,
    },
    /// The earlier tree is larger than the later one.
    #[error("a tree of {new} leaves cannot come after one of {old}")]
    Shrunk {
        /// How many leaves the earlier tree has.
        old: u64,
        /// How many leaves the later tree has.
        new: u64,
    },
    /// A hash that is needed is not known.
    #[error("the hash of node {index} at level {level} is not known")]
    UnknownNode {
        /// The level; leaves are level 0.
        level: u8,
        /// The index in the level.
        index: u64,
    },
    /// The proof has too few or too many hashes.
    #[error("a proof of {length} hashes does not fit the sizes")]
    WrongLength {
        /// How many hashes it has.
        length: usize,
    },
    /// The proof leads to another root than the one given.
    #[error("the proof leads to another root")]
    WrongRoot,
}

/// The root of the first `size` leaves.
///
/// # Errors
///
/// [`ProofError::UnknownNode`] if `nodes` does not know a hash that is needed.
pub fn root(nodes: &(impl Nodes + ?Sized), size: u64) -> Result<TreeHash, ProofError> {
    range(nodes, 0, size)
}

/// The proof that leaf `index` is in the tree of the first `size` leaves.
///
/// # Errors
///
/// [`ProofError::NoSuchLeaf`] unless `index` is below `size`, and [`ProofError::UnknownNode`] if `nodes` does not know a hash that
/// is needed.
pub fn inclusion_proof(
    nodes: &(impl Nodes + ?Sized),
    index: u64,
    size: u64,
) -> Result<Vec<TreeHash>, ProofError> {
    if index >= size {
        return Err(ProofError::NoSuchLeaf { index, size });
    }
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while let Some(middle) = middle(from, to) {
        if index < middle {
            proof.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `new` leaves begins with the first `old` leaves. Empty if either is all or nothing.
///
/// # Errors
///
/// [`ProofError::Shrunk`] if `old` is larger than `new`, and [`ProofError::UnknownNode`] if `nodes` does not know a hash that is
/// needed.
pub fn consistency_proof(
    nodes: &(impl Nodes + ?Sized),
    old: u64,
    new: u64,
) -> Result<Vec<TreeHash>, ProofError> {
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (0, new);
    let mut proof = Vec::new();
    while old < to
        && let Some(middle) = middle(from, to)
    {
        if old <= middle {
            proof.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    // Where nothing was left behind, what remains is the earlier tree itself, whose root the reader has.
    if from > 0 {
        proof.push(range(nodes, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `proof` shows the leaf with hash `leaf` at `index` in the tree of `size` leaves with root `root`.
///
/// # Errors
///
/// [`ProofError::NoSuchLeaf`], [`ProofError::WrongLength`] or [`ProofError::WrongRoot`] if it does not.
pub fn verify_inclusion(
    leaf: &TreeHash,
    index: u64,
    size: u64,
    proof: &[TreeHash],
    root: &TreeHash,
) -> Result<(), ProofError> {
    let last = size.checked_sub(1).filter(|last| index <= *last);
    let last = last.ok_or(ProofError::NoSuchLeaf { index, size })?;
    let mut climb = Climb { at: index, last };
    let mut hash = *leaf;
    for sibling in proof {
        hash = match climb.step().ok_or_else(|| wrong_length(proof))? {
            Sibling::Left => node_hash(sibling, &hash),
            Sibling::Right => node_hash(&hash, sibling),
        };
    }
    climb.ends_at_the_top(proof)?;
    same_root(&hash, root)
}

/// Checks that `proof` shows that the tree of `new_size` leaves with root `new_root` begins with the one of `old_size` leaves with
/// root `old_root`.
///
/// Every tree begins with the empty one: the proof of that is empty, as for two trees that are the same.
///
/// # Errors
///
/// [`ProofError::Shrunk`], [`ProofError::WrongLength`] or [`ProofError::WrongRoot`] if it does not; the latter also if the root
/// of an earlier tree without leaves is not [`EMPTY_ROOT`].
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    proof: &[TreeHash],
    old_root: &TreeHash,
    new_root: &TreeHash,
) -> Result<(), ProofError> {
    if old_size > new_size {
        let (old, new) = (old_size, new_size);
        return Err(ProofError::Shrunk { old, new });
    }
    let (Some(old_last), Some(new_last)) = (old_size.checked_sub(1), new_size.checked_sub(1))
    else {
        needs_no_hashes(proof)?;
        same_root(old_root, &EMPTY_ROOT)?;
        return if new_size == 0 {
            same_root(new_root, &EMPTY_ROOT)
        } else {
            Ok(())
        };
    };
    if old_size == new_size {
        needs_no_hashes(proof)?;
        return same_root(old_root, new_root);
    }
    // The climb begins at the last full subtree of the earlier tree. That is the whole earlier tree if its size is a power of two.
    let (first, siblings) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or_else(|| wrong_length(proof))?
    };
    let mut climb = Climb {
        at: old_last,
        last: new_last,
    };
    climb.up(old_last.trailing_ones());
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in siblings {
        match climb.step().ok_or_else(|| wrong_length(proof))? {
            Sibling::Left => {
                old_hash = node_hash(sibling, &old_hash);
                new_hash = node_hash(sibling, &new_hash);
            }
            Sibling::Right => new_hash = node_hash(&new_hash, sibling),
        }
    }
    climb.ends_at_the_top(proof)?;
    same_root(&old_hash, old_root)?;
    same_root(&new_hash, new_root)
}

/// The root of the leaves `from..to`, where `from` is a multiple of the largest power of two that fits between.
fn range(nodes: &(impl Nodes + ?Sized), from: u64, to: u64) -> Result<TreeHash, ProofError> {
    let mut subtrees = Vec::new();
    let mut from = from;
    // One full subtree for each bit set in the length, the largest first.
    while let Some(bit) = to.saturating_sub(from).checked_ilog2() {
        let level = u8::try_from(bit).unwrap_or(u8::MAX);
        let index = from >> bit;
        let node = nodes.node(level, index);
        subtrees.push(node.ok_or(ProofError::UnknownNode { level, index })?);
        from = from.saturating_add(1 << bit);
    }
    Ok(root_above(&subtrees))
}

/// Where the tree over the leaves `from..to` parts in two: the left part is as large a full subtree as leaves something to the
/// right. None for fewer than two leaves.
fn middle(from: u64, to: u64) -> Option<u64> {
    let level = to.checked_sub(from)?.checked_sub(1)?.checked_ilog2()?;
    from.checked_add(1_u64.checked_shl(level)?)
}

/// On which side of a node its sibling is.
enum Sibling {
    Left,
    Right,
}

/// Where a climb to the root stands: the index of the node, and of the last node, in the level it has reached.
struct Climb {
    at: u64,
    last: u64,
}

impl Climb {
    /// Goes up by one sibling; none at the root.
    fn step(&mut self) -> Option<Sibling> {
        if self.last == 0 {
            return None;
        }
        let has_left = self.at & 1 == 1 || self.at == self.last;
        if has_left {
            // A last node without a left sibling stands for its parent.
            self.up(self.at.trailing_zeros());
        }
        self.up(1);
        Some(if has_left {
            Sibling::Left
        } else {
            Sibling::Right
        })
    }

    fn up(&mut self, levels: u32) {
        self.at = self.at.checked_shr(levels).unwrap_or(0);
        self.last = self.last.checked_shr(levels).unwrap_or(0);
    }

    fn ends_at_the_top(&self, proof: &[TreeHash]) -> Result<(), ProofError> {
        if self.last == 0 {
            Ok(())
        } else {
            Err(wrong_length(proof))
        }
    }
}

fn wrong_length(proof: &[TreeHash]) -> ProofError {
    ProofError::WrongLength {
        length: proof.len(),
    }
}

fn needs_no_hashes(proof: &[TreeHash]) -> Result<(), ProofError> {
    if proof.is_empty() {
        Ok(())
    } else {
        Err(wrong_length(proof))
    }
}

fn same_root(reached: &TreeHash, root: &TreeHash) -> Result<(), ProofError> {
    if reached == root {
        Ok(())
    } else {
        Err(ProofError::WrongRoot)
    }
}
