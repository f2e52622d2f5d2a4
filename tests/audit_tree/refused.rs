//! A proof with anything in it changed is refused.

use countersign::audit::proof::{
    ProofError, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion,
};
use countersign::audit::tree::{TreeHash, leaf_hash, node_hash};

use crate::support::{Trees, leaf};

fn flipped(hash: &TreeHash, bit: usize) -> TreeHash {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}

/// `proof` with one bit changed in each possible place; with a hash doubled, exchanged with the next or left out with all behind it; and with one more.
fn mutations(proof: &[TreeHash]) -> Vec<Vec<TreeHash>> {
    let mut found = vec![
        [proof, &[leaf_hash(b"more")]].concat(),
        [&[leaf_hash(b"more")], proof].concat(),
    ];
    let mut add = |change: &dyn Fn(&mut Vec<TreeHash>)| {
        let mut changed = proof.to_vec();
        change(&mut changed);
        found.push(changed);
    };
    for at in 0..proof.len() {
        (0..256).for_each(|bit| add(&|changed| changed[at] = flipped(&proof[at], bit)));
        add(&|changed| changed.truncate(at));
        add(&|changed| changed.insert(at, proof[at]));
        if at + 1 < proof.len() {
            add(&|changed| changed.swap(at, at + 1));
        }
    }
    found
}

const SIZES: [u64; 12] = [1, 2, 3, 7, 8, 9, 31, 100, 255, 256, 257, 513];

#[test]
fn a_changed_inclusion_proof_is_refused() {
    let trees = Trees::of(513);
    let mut count = 0;
    for size in SIZES {
        let root = trees.root(size);
        for index in (0..size).step_by(usize::try_from(size / 7 + 1).unwrap()) {
            let hash = leaf_hash(&leaf(index));
            let proof = inclusion_proof(&trees.levels, index, size).unwrap();
            for changed in mutations(&proof) {
                let verified = verify_inclusion(&hash, index, size, &changed, &root);
                assert!(verified.is_err(), "{index} of {size}: {changed:?}");
                count += 1;
            }
            for bit in 0..256 {
                let (wrong_leaf, wrong_root) = (flipped(&hash, bit), flipped(&root, bit));
                assert!(verify_inclusion(&wrong_leaf, index, size, &proof, &root).is_err());
                assert!(verify_inclusion(&hash, index, size, &proof, &wrong_root).is_err());
                count += 2;
            }
            for other in (0..size + 3).filter(|other| *other != index) {
                assert!(verify_inclusion(&hash, other, size, &proof, &root).is_err());
                count += 1;
            }
        }
    }
    println!("{count} changed inclusion proofs refused");
}

#[test]
fn a_changed_consistency_proof_is_refused() {
    let trees = Trees::of(513);
    let mut count = 0;
    for new in SIZES {
        let new_root = trees.root(new);
        for old in (1..new).step_by(usize::try_from(new / 7 + 1).unwrap()) {
            let old_root = trees.root(old);
            let proof = consistency_proof(&trees.levels, old, new).unwrap();
            for changed in mutations(&proof) {
                let verified = verify_consistency(old, new, &changed, &old_root, &new_root);
                assert!(verified.is_err(), "{old} to {new}: {changed:?}");
                count += 1;
            }
            for bit in 0..256 {
                let (wrong_old, wrong_new) = (flipped(&old_root, bit), flipped(&new_root, bit));
                assert!(verify_consistency(old, new, &proof, &wrong_old, &new_root).is_err());
                assert!(verify_consistency(old, new, &proof, &old_root, &wrong_new).is_err());
                count += 2;
            }
            assert!(verify_consistency(new, old, &proof, &new_root, &old_root).is_err());
        }
    }
    println!("{count} changed consistency proofs refused");
}

#[test]
fn a_proof_that_goes_on_above_the_root_is_refused() {
    let trees = Trees::of(21);
    let more = leaf_hash(b"more");
    let wrong_length = |proof: &[TreeHash]| {
        let length = proof.len();
        Err(ProofError::WrongLength { length })
    };
    for (size, other) in (1..=21).flat_map(|size| (0..size).map(move |other| (size, other))) {
        for left in [true, false] {
            let above = |root| {
                if left {
                    node_hash(&more, &root)
                } else {
                    node_hash(&root, &more)
                }
            };
            let new_root = above(trees.root(size));
            let mut proof = inclusion_proof(&trees.levels, other, size).unwrap();
            proof.push(more);
            let hash = leaf_hash(&leaf(other));
            let verified = verify_inclusion(&hash, other, size, &proof, &new_root);
            assert_eq!(verified, wrong_length(&proof));
            let mut proof = consistency_proof(&trees.levels, other, size).unwrap();
            proof.push(more);
            for old_root in [trees.root(other), above(trees.root(other))] {
                let verified = verify_consistency(other, size, &proof, &old_root, &new_root);
                assert_eq!(verified, wrong_length(&proof));
            }
        }
    }
}

#[test]
fn a_log_that_was_rewritten_is_found_out() {
    let (size, changed_at) = (200, 77);
    let trees = Trees::of(size);
    let mut forged = crate::support::Levels::default();
    for index in 0..size {
        let bytes = leaf(index);
        forged.push(leaf_hash(if index == changed_at {
            b"forged"
        } else {
            &bytes
        }));
    }
    let new_root = countersign::audit::proof::root(&forged, size).unwrap();
    for old in 1..size {
        let proof = consistency_proof(&forged, old, size).unwrap();
        let verified = verify_consistency(old, size, &proof, &trees.root(old), &new_root);
        assert_eq!(verified.is_ok(), old <= changed_at, "{old}");
    }
}
