//! The keys that sign the control log, and how one vouches for the next.

use super::note::{Note, NoteError, SignerKey, VerifierKey};
use super::proto::KeyAdded;

/// What is signed about a new key.
fn words(key: &VerifierKey) -> String {
    format!("countersign key v1\n{key}\n")
}

/// The record that adds `key`, signed by itself and, unless it is the first, by the key before it.
///
/// # Errors
/// [`NoteError`]: the keys cannot sign, which no key does that could be read.
pub fn key_added(key: &SignerKey, by: Option<&SignerKey>) -> Result<KeyAdded, NoteError> {
    let words = words(key.verifier());
    let sign = |signer: &SignerKey| -> Result<Vec<u8>, NoteError> {
        let note = Note::sign(&words, &[signer])?;
        let signature = note.signatures().first();
        Ok(signature
            .map(|each| each.bytes().to_vec())
            .unwrap_or_default())
    };
    Ok(KeyAdded {
        key: key.verifier().to_string(),
        by: by.map(|by| by.verifier().to_string()).unwrap_or_default(),
        signature: by.map(sign).transpose()?.unwrap_or_default(),
        own_signature: sign(key)?,
    })
}

/// The key that `record` adds, if its own signature holds and `known` has the key that vouches for it; the first key needs none.
pub fn accepted(record: &KeyAdded, known: &[VerifierKey]) -> Option<VerifierKey> {
    let key: VerifierKey = record.key.parse().ok()?;
    let words = words(&key);
    if !key.accepts(&words, &record.own_signature) {
        return None;
    }
    if known.is_empty() {
        return record.by.is_empty().then_some(key);
    }
    let by: VerifierKey = record.by.parse().ok()?;
    let is_vouched_for = known.contains(&by) && by.accepts(&words, &record.signature);
    is_vouched_for.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SignerKey {
        SignerKey::from_seed("c/control", &[seed; 32]).unwrap()
    }

    #[test]
    fn a_key_is_vouched_for_by_one_that_is_known() {
        let (first, second, stranger) = (key(1), key(2), key(3));
        let began = accepted(&key_added(&first, None).unwrap(), &[]).unwrap();
        let known = [began];
        let next = key_added(&second, Some(&first)).unwrap();
        assert_eq!(accepted(&next, &known).as_ref(), Some(second.verifier()));
        let forged = key_added(&second, Some(&stranger)).unwrap();
        assert_eq!(accepted(&forged, &known), None);
        assert_eq!(accepted(&key_added(&second, None).unwrap(), &known), None);
        let altered = KeyAdded {
            key: stranger.verifier().to_string(),
            ..next
        };
        assert_eq!(accepted(&altered, &known), None);
    }
}
