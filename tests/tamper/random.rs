//! Random bytes in every place are judged, and never end the verifier.

use std::fs;

use countersign::audit::verify::{
    ControlCheck, ControlFacts, DecisionCheck, Findings, FolderTexts, Outside,
};
use proptest::prelude::*;

use crate::maker::Maker;
use crate::{Given, everything};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

proptest! {
    #[test]
    fn random_records_are_judged(records in proptest::collection::vec(bytes(300), 0..20), text in any::<String>()) {
        let texts = || FolderTexts { key_lines: &text, checkpoints: Box::new(text.as_bytes()) };
        let mut findings = Findings::default();
        let mut control = ControlCheck::new("control", records.first().map_or(&[], Vec::as_slice), texts(), Vec::new());
        control = control.judged_by(Outside { pinned: Vec::new(), heads: Some(text.clone()) });
        control.begin(&mut findings);
        for record in &records {
            control.push(record, &mut findings);
        }
        let (mut facts, _, _) = control.end(&mut findings);
        let mut decisions = DecisionCheck::new("decision/x", "x", texts(), &mut facts, &mut findings);
        decisions.begin(&mut findings);
        for record in &records {
            decisions.push(record, &mut facts.approvals, &mut findings);
        }
        decisions.end(&mut facts, &mut findings);
    }

    #[test]
    fn records_with_random_bytes_in_them_are_judged(
        seed in 0_u64..50,
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let cluster = Maker::cluster(seed);
        let mut leaves = cluster.control.leaves.clone();
        for (leaf, at, byte) in wounds {
            let leaf = leaf.get_mut(&mut leaves);
            let at = at.index(leaf.len());
            leaf[at] = byte;
        }
        let texts = FolderTexts { key_lines: &cluster.control.key_lines, checkpoints: Box::new(&[][..]) };
        let mut findings = Findings::default();
        let mut control = ControlCheck::new("control", &leaves[0], texts, Vec::new());
        control.begin(&mut findings);
        for leaf in &leaves {
            control.push(leaf, &mut findings);
        }
        control.end(&mut findings);
    }

    #[test]
    fn random_files_are_judged(name in 0_usize..5, content in bytes(400), seed in 0_u64..20) {
        let cluster = Maker::cluster(seed);
        let root = tempfile::tempdir().unwrap();
        let folders = cluster.write(root.path());
        let names = ["key", "checkpoints", "hashes", "tail", "00000000000000000000.seg"];
        fs::write(folders[0].join("control").join(names[name]), content).unwrap();
        crate::report(&folders, everything(&cluster));
        crate::report(&folders, Given::default());
    }
}

#[test]
fn nothing_is_judged_without_a_control_log() {
    let mut findings = Findings::default();
    let mut facts = ControlFacts::default();
    let texts = FolderTexts {
        key_lines: "",
        checkpoints: Box::new(&[][..]),
    };
    let check = DecisionCheck::new("decision/x", "x", texts, &mut facts, &mut findings);
    check.end(&mut facts, &mut findings);
}
