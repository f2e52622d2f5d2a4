//! Cosignatures: a witness's word, under a checkpoint, that the log only grew, in the form of C2SP tlog-cosignature with Ed25519.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest as _, Sha256};

use super::note::{KeyError, Note, NoteError, NoteSignature, VerifierKey};

/// How C2SP numbers timestamped Ed25519 cosignatures among the kinds of signatures.
const COSIGNATURE: u8 = 4;
/// The largest time that C2SP allows.
const MAX_TIME: u64 = u64::MAX >> 1;

/// Why a text is no key of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignerKeyError {
    /// The text has not the form `name+id+key`.
    #[error("the key has not the form `name+id+key`")]
    Malformed,
    /// The key is of another kind, such as that of a log.
    #[error("the key is of kind {0}, not of kind 4, an Ed25519 key for cosignatures")]
    OtherKind(u8),
    /// The id is not the one that follows from name and key.
    #[error("the key's id does not follow from its name and key")]
    WrongId,
    /// The name or the bytes make no key.
    #[error(transparent)]
    Unfit(#[from] KeyError),
}

/// The key by which a witness is known: its name, and the public half of an Ed25519 key. Shown as C2SP's vkey, `name+id+key`.
#[derive(Clone, PartialEq, Eq)]
pub struct CosignerKey {
    /// Checks names and signatures; its own id is that of a key for notes, which this is not.
    key: VerifierKey,
    key_id: u32,
}

impl CosignerKey {
    /// The key with this name and these public bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::BadName`] or [`KeyError::Unusable`].
    pub fn from_public_key(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifierKey::from_public_key(name, public)?;
        let hasher = Sha256::new_with_prefix(name)
            .chain_update([b'\n', COSIGNATURE])
            .chain_update(public);
        let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
        let key_id = u32::from_be_bytes([a, b, c, d]);
        Ok(Self { key, key_id })
    }

    /// The witness's name.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// The number by which cosignatures name the key; it follows from name and key.
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.public_key()
    }

    /// Whether `signature` says that it was made with this key. It may be wrong.
    pub fn is_named_by(&self, signature: &NoteSignature) -> bool {
        signature.key_id() == self.key_id && signature.name() == self.name()
    }

    /// When the witness signed the checkpoint with this text, in seconds since 1970, as it says itself; none if `signature` is not
    /// its signature of just this text.
    pub fn verify(&self, signature: &NoteSignature, text: &str) -> Option<u64> {
        let (time, bytes) = signature.bytes().split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let is_right = self.is_named_by(signature)
            && time <= MAX_TIME
            && self.key.accepts(&signed_message(time, text), bytes);
        is_right.then_some(time)
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode([&[COSIGNATURE], &self.public_key()[..]].concat());
        write!(f, "{}+{:08x}+{key}", self.name(), self.key_id)
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({self})")
    }
}

impl FromStr for CosignerKey {
    type Err = CosignerKeyError;

    fn from_str(text: &str) -> Result<Self, CosignerKeyError> {
        let malformed = CosignerKeyError::Malformed;
        let (name, rest) = text.split_once('+').ok_or(malformed)?;
        let (id, key) = rest.split_once('+').ok_or(malformed)?;
        let is_digit = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != 8 || !id.bytes().all(is_digit) {
            return Err(malformed);
        }
        let key = BASE64_STANDARD.decode(key).map_err(|_| malformed)?;
        let (kind, public) = key.split_first().ok_or(malformed)?;
        if *kind != COSIGNATURE {
            return Err(CosignerKeyError::OtherKind(*kind));
        }
        let public = public.try_into().map_err(|_| malformed)?;
        let key = Self::from_public_key(name, public)?;
        if format!("{:08x}", key.key_id) != id {
            return Err(CosignerKeyError::WrongId);
        }
        Ok(key)
    }
}

/// What a witness signs: when, and the text of the checkpoint.
fn signed_message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Why what a witness answered is no cosignature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// A signature names the witness's key, which did not make it for this checkpoint.
    #[error("the signature by `{name}` with key {key_id:08x} is not of this checkpoint")]
    Wrong {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: u32,
    },
    /// There is no signature by the witness's key.
    #[error("there is no signature by the witness's key")]
    Missing,
    /// The signature finds no place under the checkpoint.
    #[error("the signature cannot stand under the checkpoint")]
    NoRoom(#[from] NoteError),
}

/// Puts the cosignature by `key` among `lines` under `note`, a signed checkpoint. Of several the one of the latest time is taken,
/// in place of one that is there already. Lines by others, and what is no signature, are left out.
///
/// # Errors
///
/// [`CosignatureError::Wrong`] if any line names `key` and is not its signature of the checkpoint, [`CosignatureError::Missing`] if
/// none names it, and [`CosignatureError::NoRoom`] if the note has as many signatures as it can have.
pub fn add_cosignature(
    note: &Note,
    lines: &str,
    key: &CosignerKey,
) -> Result<Note, CosignatureError> {
    let text = note.text();
    let mut latest: Option<(u64, NoteSignature)> = None;
    for line in lines.split('\n') {
        let Some(signature) = read_line(line).filter(|signature| key.is_named_by(signature)) else {
            continue;
        };
        let time = key.verify(&signature, text);
        let time = time.ok_or_else(|| CosignatureError::Wrong {
            name: key.name().to_owned(),
            key_id: key.key_id,
        })?;
        if latest.as_ref().is_none_or(|(before, _)| *before < time) {
            latest = Some((time, signature));
        }
    }
    let (_, cosignature) = latest.ok_or(CosignatureError::Missing)?;
    let others = note.signatures().iter();
    let others = others.filter(|signature| !key.is_named_by(signature));
    let mut cosigned = format!("{text}\n");
    for signature in others.chain([&cosignature]) {
        cosigned.push_str(&signature.to_string());
        cosigned.push('\n');
    }
    Ok(Note::parse(&cosigned)?)
}

/// The signature in a line, as a note has it; none if it is none.
fn read_line(line: &str) -> Option<NoteSignature> {
    let note = Note::parse(&format!("-\n\n{line}\n")).ok()?;
    note.signatures().first().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: u8) -> String {
        // The point that Ed25519 begins with.
        let public = [&[kind, 0x58][..], &[0x66; 31]].concat();
        format!("w.example/w1+00000000+{}", BASE64_STANDARD.encode(public))
    }

    #[test]
    fn what_is_no_key_of_a_witness_is_refused() {
        let check = |text: &str, expected: CosignerKeyError| {
            assert_eq!(text.parse::<CosignerKey>(), Err(expected), "{text}");
        };
        for text in [
            "",
            "w",
            "w+00000000",
            "w+0+BA==",
            "w+0000000G+BA==",
            "w+00000000+",
        ] {
            check(text, CosignerKeyError::Malformed);
        }
        check("w+00000000+BA==", CosignerKeyError::Malformed);
        check(&key(1), CosignerKeyError::OtherKind(1));
        check(&key(6), CosignerKeyError::OtherKind(6));
        check(&key(4), CosignerKeyError::WrongId);
        check(
            &key(4).replacen("w.example", "w example", 1),
            CosignerKeyError::Unfit(KeyError::BadName),
        );
        // The neutral point accepts signatures nobody made.
        let weak = [&[4, 1][..], &[0; 31]].concat();
        check(
            &format!("w+00000000+{}", BASE64_STANDARD.encode(weak)),
            CosignerKeyError::Unfit(KeyError::Unusable),
        );
    }

    #[test]
    fn only_whole_signature_lines_are_read() {
        assert!(read_line("— w AAAAAAA=").is_some());
        for line in [
            "",
            "w AAAAAAA=",
            "— w",
            "— w ?",
            "— w AAAAAA==",
            "—  AAAAAAA=",
        ] {
            assert_eq!(read_line(line), None, "{line}");
        }
    }
}
