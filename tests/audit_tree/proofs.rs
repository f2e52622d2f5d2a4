//! Roots and proofs are the same as those of ct-merkle and `tlog_tiles`, and each side accepts them.

use std::collections::BTreeSet;

use countersign::audit::proof::{
    ProofError, consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion,
};
use countersign::audit::tree::{BUNDLE_LEVEL, Frontier, TreeHash, bundle_hash, leaf_hash};
use countersign::audit::{proof::Nodes as _, tree::EMPTY_ROOT};
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::Sha256;

use crate::support::{Trees, all_theirs, concat, leaf, theirs};

const MOST: u64 = 4096;
/// Up to this size every pair is tried; above it some.
const ALL_PAIRS: u64 = 300;

fn ct_root(hash: &TreeHash, size: u64) -> RootHash<Sha256> {
    RootHash::new((*hash.as_bytes()).into(), size)
}

/// Some numbers below `size`: the first and last, those about each power of two, and a stride that differs with `size`.
fn some_below(size: u64) -> BTreeSet<u64> {
    let about_powers = (0..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
    let strided = (size * 31 % 257..size).step_by(usize::try_from(size / 6 + 1).unwrap());
    let near_powers = about_powers.filter(|at| (at ^ size).is_multiple_of(5));
    let wanted = [0, size / 2, size - 1]
        .into_iter()
        .chain(strided)
        .chain(near_powers);
    wanted.filter(|at| *at < size).collect()
}

fn pairs_at(size: u64) -> Vec<u64> {
    if size <= ALL_PAIRS {
        (0..size).collect()
    } else {
        some_below(size).into_iter().collect()
    }
}

#[test]
fn every_root_is_the_same() {
    let mut trees = Trees::new();
    for size in 1..=MOST {
        trees.grow();
        let ours = trees.frontier.root();
        assert_eq!(trees.frontier.size(), size);
        assert_eq!(
            ours.as_bytes()[..],
            trees.ct.root().as_bytes()[..],
            "{size}"
        );
        let tlog = tlog_tiles::tree_hash(size, &trees.stored).unwrap();
        assert_eq!(theirs(&ours), tlog, "{size}");
        assert_eq!(root(&trees.levels, size), Ok(ours), "{size}");
        let read = Frontier::from_bytes(&trees.frontier.to_bytes());
        assert_eq!(read.as_ref(), Ok(&trees.frontier));
    }
    for size in 0..MOST {
        assert_eq!(root(&trees.levels, size), Ok(trees.root(size)), "{size}");
    }
    assert_eq!(tlog_tiles::EMPTY_HASH, theirs(&EMPTY_ROOT));
}

#[test]
fn a_bundle_is_the_node_of_its_level() {
    let trees = Trees::of(1024);
    for index in 0..4 {
        let leaves = (index * 256..(index + 1) * 256).map(|at| leaf_hash(&leaf(at)));
        let bundle = bundle_hash(&leaves.collect::<Vec<_>>());
        assert_eq!(trees.levels.node(BUNDLE_LEVEL, index), Some(bundle));
    }
}

#[test]
fn every_inclusion_proof_is_the_same_and_accepted_by_all() {
    let mut trees = Trees::new();
    let mut count = 0;
    for size in 1..=MOST {
        trees.grow();
        let root = trees.root(size);
        for index in pairs_at(size) {
            let ours = inclusion_proof(&trees.levels, index, size).unwrap();
            let ct = trees.ct.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(concat(&ours), ct.as_bytes(), "{index} of {size}");
            let tlog = tlog_tiles::prove_record(size, index, &trees.stored).unwrap();
            assert_eq!(all_theirs(&ours), tlog, "{index} of {size}");

            let bytes = leaf(index);
            let hash = leaf_hash(&bytes);
            assert_eq!(verify_inclusion(&hash, index, size, &ours, &root), Ok(()));
            let ct = InclusionProof::<Sha256>::from_bytes(concat(&ours));
            ct_root(&root, size)
                .verify_inclusion(&bytes, index, &ct)
                .unwrap();
            tlog_tiles::check_record(&tlog, size, theirs(&root), index, theirs(&hash)).unwrap();
            count += 1;
        }
    }
    println!("{count} inclusion proofs");
}

#[test]
fn every_consistency_proof_is_the_same_and_accepted_by_all() {
    let mut trees = Trees::new();
    let mut count = 0;
    for new in 1..=MOST {
        trees.grow();
        let new_root = trees.root(new);
        for old in pairs_at(new).into_iter().filter(|old| *old > 0) {
            let old_root = trees.root(old);
            let ours = consistency_proof(&trees.levels, old, new).unwrap();
            let ct = trees
                .ct
                .prove_consistency(usize::try_from(new - old).unwrap());
            assert_eq!(concat(&ours), ct.as_bytes(), "{old} to {new}");
            let tlog = tlog_tiles::prove_tree(new, old, &trees.stored).unwrap();
            assert_eq!(all_theirs(&ours), tlog, "{old} to {new}");

            assert_eq!(
                verify_consistency(old, new, &ours, &old_root, &new_root),
                Ok(())
            );
            let ct = ConsistencyProof::<Sha256>::try_from_bytes(concat(&ours)).unwrap();
            let ct_old = ct_root(&old_root, old);
            ct_root(&new_root, new)
                .verify_consistency(&ct_old, &ct)
                .unwrap();
            tlog_tiles::check_tree(&tlog, new, theirs(&new_root), old, theirs(&old_root)).unwrap();
            count += 1;
        }
    }
    println!("{count} consistency proofs");
}

#[test]
fn nothing_and_everything_are_proved_by_an_empty_proof() {
    let trees = Trees::of(40);
    for size in 0..=40 {
        let root = trees.root(size);
        assert_eq!(consistency_proof(&trees.levels, 0, size), Ok(vec![]));
        assert_eq!(verify_consistency(0, size, &[], &EMPTY_ROOT, &root), Ok(()));
        assert_eq!(consistency_proof(&trees.levels, size, size), Ok(vec![]));
        assert_eq!(verify_consistency(size, size, &[], &root, &root), Ok(()));
        let long = ProofError::WrongLength { length: 1 };
        assert_eq!(
            verify_consistency(0, size, &[root], &EMPTY_ROOT, &root),
            Err(long)
        );
        assert_eq!(
            verify_consistency(size, size, &[root], &root, &root),
            Err(long)
        );
        let other = leaf_hash(b"other");
        let refused = verify_consistency(size, size, &[], &other, &root);
        assert_eq!(refused, Err(ProofError::WrongRoot));
        let refused = verify_consistency(0, size, &[], &other, &root);
        assert_eq!(refused, Err(ProofError::WrongRoot));
    }
    let refused = verify_consistency(0, 0, &[], &EMPTY_ROOT, &leaf_hash(b"other"));
    assert_eq!(refused, Err(ProofError::WrongRoot));
}

#[test]
fn what_is_not_there_is_not_proved() {
    let trees = Trees::of(10);
    let no_leaf = ProofError::NoSuchLeaf {
        index: 10,
        size: 10,
    };
    assert_eq!(inclusion_proof(&trees.levels, 10, 10), Err(no_leaf));
    let shrunk = ProofError::Shrunk { old: 10, new: 9 };
    assert_eq!(consistency_proof(&trees.levels, 10, 9), Err(shrunk));
    let unknown = ProofError::UnknownNode {
        level: 0,
        index: 10,
    };
    assert_eq!(root(&trees.levels, 11), Err(unknown));
    assert_eq!(inclusion_proof(&trees.levels, 3, 11), Err(unknown));
    assert_eq!(consistency_proof(&trees.levels, 3, 11), Err(unknown));
}
