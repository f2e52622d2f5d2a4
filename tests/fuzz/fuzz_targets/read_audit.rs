//! What an auditor is handed is read without a panic, and what can be read is written back as it was.

#![no_main]
#![expect(clippy::unwrap_used, reason = "a fuzz target stops at the unexpected")]

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::control_record::{decode, gap_in};
use countersign::audit::cosignature::CosignerKey;
use countersign::audit::note::{Note, SignerKey, VerifierKey};
use countersign::audit::tile::{EntriesTile, Tile};
use countersign::audit::tree::Frontier;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(gap) = gap_in(bytes) {
        assert!(decode(bytes).is_some(), "{gap:?}");
    }
    if let Ok(frontier) = Frontier::from_bytes(bytes) {
        assert_eq!(frontier.to_bytes(), bytes);
        frontier.root();
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
            assert_eq!(Checkpoint::parse(&checkpoint.to_text()).unwrap(), checkpoint);
        }
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<CosignerKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = SignerKey::from_text(text) {
        assert_eq!(key.to_text(), text);
    }
    if let Ok(tile) = text.parse::<Tile>() {
        assert_eq!(tile.to_string(), text);
    }
    if let Ok(tile) = text.parse::<EntriesTile>() {
        assert_eq!(tile.to_string(), text);
    }
});
