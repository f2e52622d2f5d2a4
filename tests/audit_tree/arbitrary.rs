//! Nothing that reads or checks what others send panics, whatever they send.

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::note::{Note, SignerKey, VerifierKey};
use countersign::audit::proof::{
    Nodes, ProofError, consistency_proof, inclusion_proof, root, verify_consistency,
    verify_inclusion,
};
use countersign::audit::tile::{EntriesTile, Tile, tile_bytes};
use countersign::audit::tree::{Frontier, TreeHash};
use proptest::collection::vec;
use proptest::prelude::*;

/// Knows every hash there could be.
struct Everything;

impl Nodes for Everything {
    fn node(&self, level: u8, index: u64) -> Option<TreeHash> {
        let mut bytes = [level; 32];
        bytes[..8].copy_from_slice(&index.to_le_bytes());
        Some(bytes.into())
    }
}

fn hash() -> impl Strategy<Value = TreeHash> {
    any::<[u8; 32]>().prop_map(TreeHash::from)
}

/// Numbers of every magnitude, and often those next to a power of two.
fn number() -> impl Strategy<Value = u64> {
    let about_power = |(bit, more): (u32, i64)| (1_u64 << bit).wrapping_add_signed(more);
    prop_oneof![
        any::<u64>(),
        (any::<u64>(), 0_u32..64).prop_map(|(number, shift)| number >> shift),
        (0_u32..64, -2_i64..3).prop_map(about_power),
        Just(0),
        Just(u64::MAX),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn verifying_anything_ends(
        (first, second) in (number(), number()),
        proof in vec(hash(), 0..140),
        (one, two) in (hash(), hash()),
    ) {
        prop_assert!(verify_inclusion(&one, first, second, &proof, &two).is_err() || (second == 1 && one == two));
        let verified = verify_consistency(first, second, &proof, &one, &two);
        prop_assert!(verified.is_err());
    }

    #[test]
    fn proofs_of_any_size_are_made_and_verified((index, size) in (number(), number()), leaf in hash()) {
        let top = root(&Everything, size).unwrap();
        match inclusion_proof(&Everything, index, size) {
            Ok(proof) => {
                prop_assert!(index < size && proof.len() <= 64);
                let verified = verify_inclusion(&leaf, index, size, &proof, &top);
                prop_assert!(verified.is_err() || size == 1);
            }
            Err(_) => prop_assert!(index >= size),
        }
        match consistency_proof(&Everything, index, size) {
            Ok(proof) => {
                prop_assert!(index <= size && proof.len() <= 65);
                // The made up hashes do not hang together, but the length of the proof must be right.
                let old = root(&Everything, index).unwrap();
                let verified = verify_consistency(index, size, &proof, &old, &top);
                let is_wrong_length = matches!(verified, Err(ProofError::WrongLength { .. }));
                prop_assert!(!is_wrong_length);
            }
            Err(_) => prop_assert!(index > size),
        }
    }

    #[test]
    fn any_bytes_are_a_frontier_or_none(size in number(), hashes in 0_usize..70, odd in 0_usize..3) {
        let mut bytes = size.to_le_bytes().to_vec();
        bytes.resize(8 + hashes * 32 + odd, 9);
        if let Ok(mut frontier) = Frontier::from_bytes(&bytes) {
            prop_assert_eq!(frontier.to_bytes(), bytes);
            frontier.push(frontier.root());
            prop_assert_eq!(frontier.size(), size + 1);
        }
        let few = vec![0; odd * 4];
        prop_assert_eq!(Frontier::from_bytes(&few).is_ok(), few.len() == 8);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|[\n+— ]){0,80}") {
        if let Ok(note) = Note::parse(&text) {
            prop_assert_eq!(note.to_string(), text.clone());
        }
        if let Ok(key) = text.parse::<VerifierKey>() {
            prop_assert_eq!(key.to_string(), text.clone());
        }
        prop_assert!(SignerKey::from_text(&text).is_err());
        let secret = format!("PRIVATE+KEY+{text}");
        prop_assert!(SignerKey::from_text(&secret).is_err());
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert!(text.starts_with(&checkpoint.to_text()));
        }
        prop_assert!(Checkpoint::open(&text, "log", &[]).is_err());
    }

    #[test]
    fn tiles_anywhere_have_bytes_or_none(level in any::<u8>(), (index, size) in (number(), number()), width in any::<u16>()) {
        if let Some(tile) = Tile::new(level, index, width) {
            let bytes = tile_bytes(&Everything, &tile).map(|bytes| bytes.len());
            prop_assert!(bytes.is_none_or(|length| length == usize::from(width) * 32));
        }
        if let Some(tile) = Tile::at(level, index, size) {
            prop_assert!(tile_bytes(&Everything, &tile).is_some());
        }
        if let Some(tile) = EntriesTile::at(index, size) {
            let records = tile.records().unwrap();
            prop_assert!(records.end <= size && (records.end == size || tile.width() == 256));
        }
    }
}
