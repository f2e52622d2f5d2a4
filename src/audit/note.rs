//! Signed notes: a text and the Ed25519 signatures under it, in the form of C2SP signed-note.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// How many bytes the text of a note has at most.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// How many signatures a note has at most.
pub const MAX_SIGNATURES: usize = 16;

/// The text, and as much again for the signatures.
const MAX_NOTE_BYTES: usize = 2 * MAX_TEXT_BYTES;
/// How C2SP numbers Ed25519 among the kinds of signatures.
const ED25519: u8 = 1;
const SECRET_PREFIX: &str = "PRIVATE+KEY+";

/// Why a text or name makes no key. Never says what the text was, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text has not the form `name+id+key`, or is written in another way than it would be here.
    #[error("the key has not the form `name+id+key`")]
    Malformed,
    /// The name is empty, or has a space, a plus sign or a control character.
    #[error("the key's name is empty, or has a space, a plus sign or a control character")]
    BadName,
    /// The key is of a kind other than Ed25519.
    #[error("the key is of kind {0}, which is not Ed25519")]
    OtherKind(u8),
    /// The id is not the one that follows from name and key.
    #[error("the key's id does not follow from its name and key")]
    WrongId,
    /// The bytes are not a point on the curve, or one that accepts signatures nobody made.
    #[error("the key's bytes are not a usable Ed25519 key")]
    Unusable,
}

/// Who may sign: a name, and the public half of an Ed25519 key. Shown as C2SP's vkey, `name+id+key`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_id: u32,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The key with this name and these public bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::BadName`] or [`KeyError::Unusable`].
    pub fn from_public_key(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::Unusable)?;
        if key.is_weak() {
            return Err(KeyError::Unusable);
        }
        Self::named(name, key)
    }

    fn named(name: &str, key: VerifyingKey) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::BadName);
        }
        Ok(Self {
            name: name.to_owned(),
            key_id: key_id(name, key.as_bytes()),
            key,
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number by which signatures name the key; it follows from name and key.
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether `signature` was made under `text` with the secret half.
    ///
    /// Strict: a signature is refused that only some implementations would accept.
    pub fn accepts(&self, text: &str, signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .and_then(|signature| self.key.verify_strict(text.as_bytes(), &signature))
            .is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.key_id, self.key.as_bytes()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let parts = KeyParts::read(text)?;
        let verifier = Self::from_public_key(parts.name, &parts.bytes)?;
        parts.check_id(verifier)
    }
}

/// Who signs: a name and a secret Ed25519 key. Its debug form shows the public half only.
#[derive(Clone)]
pub struct SignerKey {
    key: SigningKey,
    verifier: VerifierKey,
}

impl SignerKey {
    /// The key with this name that follows from 32 secret bytes, which must be random.
    ///
    /// # Errors
    ///
    /// [`KeyError::BadName`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::named(name, key.verifying_key())?;
        Ok(Self { key, verifier })
    }

    /// Reads what [`Self::to_text`] writes.
    ///
    /// # Errors
    ///
    /// Any [`KeyError`] but [`KeyError::Unusable`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(SECRET_PREFIX);
        let parts = KeyParts::read(rest.ok_or(KeyError::Malformed)?)?;
        let signer = Self::from_seed(parts.name, &parts.bytes)?;
        parts.check_id(signer.verifier.clone())?;
        Ok(signer)
    }

    /// The secret key as text: `PRIVATE+KEY+name+id+key`. Whoever has it can sign.
    pub fn to_text(&self) -> String {
        let verifier = &self.verifier;
        let text = key_text(&verifier.name, verifier.key_id, self.key.as_bytes());
        format!("{SECRET_PREFIX}{text}")
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, text: &str) -> NoteSignature {
        NoteSignature {
            name: self.verifier.name.clone(),
            key_id: self.verifier.key_id,
            bytes: self.key.sign(text.as_bytes()).to_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.verifier)
    }
}

/// The parts of a key's text. The id is eight hexadecimal digits in lower case.
struct KeyParts<'t> {
    name: &'t str,
    id: &'t str,
    bytes: [u8; 32],
}

impl<'t> KeyParts<'t> {
    fn read(text: &'t str) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Malformed)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Malformed)?;
        let is_digit = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != 8 || !id.bytes().all(is_digit) {
            return Err(KeyError::Malformed);
        }
        let key = BASE64_STANDARD
            .decode(key)
            .map_err(|_| KeyError::Malformed)?;
        let (kind, bytes) = key.split_first().ok_or(KeyError::Malformed)?;
        if *kind != ED25519 {
            return Err(KeyError::OtherKind(*kind));
        }
        let bytes = bytes.try_into().map_err(|_| KeyError::Malformed)?;
        Ok(Self { name, id, bytes })
    }

    /// `verifier`, if its id is the one in the text.
    fn check_id(&self, verifier: VerifierKey) -> Result<VerifierKey, KeyError> {
        if format!("{:08x}", verifier.key_id) != self.id {
            return Err(KeyError::WrongId);
        }
        Ok(verifier)
    }
}

fn key_text(name: &str, key_id: u32, key: &[u8; 32]) -> String {
    let key = BASE64_STANDARD.encode([&[ED25519], &key[..]].concat());
    format!("{name}+{key_id:08x}+{key}")
}

fn key_id(name: &str, public: &[u8; 32]) -> u32 {
    let hasher = Sha256::new_with_prefix(name)
        .chain_update([b'\n', ED25519])
        .chain_update(public);
    let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
    u32::from_be_bytes([a, b, c, d])
}

fn is_key_name(name: &str) -> bool {
    let is_fit = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.chars().all(is_fit)
}

/// Why a text is no note, or why it is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The note or its text is longer than the limit.
    #[error("the note is longer than {MAX_TEXT_BYTES} bytes of text and as much of signatures")]
    TooLong,
    /// The text does not end in a newline, or has a control character other than that.
    #[error("the note's text does not end in a newline, or has a control character")]
    BadText,
    /// The text is not followed by an empty line and signature lines.
    #[error("the note has no signatures, or one that cannot be read")]
    BadSignatures,
    /// There are more signatures than the limit.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// A signature names a known key, which did not make it.
    #[error("the note's signature by `{name}` with key {key_id:08x} is wrong")]
    WrongSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: u32,
    },
}

/// One signature line: by whom, and the bytes of the signature. It may be of any kind, and be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: u32,
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// The name of the key it says it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of that key.
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The signature, at least one byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn is_by(&self, key: &VerifierKey) -> bool {
        self.key_id == key.key_id && self.name == key.name
    }

    fn read(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix("— ")?.split_once(' ')?;
        let decoded = BASE64_STANDARD.decode(base64).ok()?;
        let (key_id, bytes) = decoded.split_first_chunk::<4>()?;
        let is_fit = is_key_name(name) && !bytes.is_empty();
        is_fit.then(|| Self {
            name: name.to_owned(),
            key_id: u32::from_be_bytes(*key_id),
            bytes: bytes.to_vec(),
        })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id.to_be_bytes()[..], &self.bytes].concat();
        write!(f, "— {} {}", self.name, BASE64_STANDARD.encode(bytes))
    }
}

/// A text with at least one signature under it. Shown in its signed form, which [`Note::parse`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a note. Whether a signature is right only [`Self::verified_by`] says.
    ///
    /// # Errors
    ///
    /// Any [`NoteError`] but [`NoteError::WrongSignature`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong);
        }
        // The text may have empty lines of its own; signatures have none.
        let (before, lines) = note.rsplit_once("\n\n").ok_or(NoteError::BadSignatures)?;
        let text = format!("{before}\n");
        check_text(&text)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::BadSignatures)?;
        if lines.split('\n').nth(MAX_SIGNATURES).is_some() {
            return Err(NoteError::TooManySignatures);
        }
        let signatures: Option<_> = lines.split('\n').map(NoteSignature::read).collect();
        let signatures = signatures.ok_or(NoteError::BadSignatures)?;
        Ok(Self { text, signatures })
    }

    /// Signs `text`, which ends in a newline, with each of `signers`.
    ///
    /// # Errors
    ///
    /// [`NoteError::TooLong`] or [`NoteError::BadText`] for the text, [`NoteError::BadSignatures`] without a signer, and
    /// [`NoteError::TooManySignatures`].
    pub fn sign(text: &str, signers: &[&SignerKey]) -> Result<Self, NoteError> {
        check_text(text)?;
        if signers.is_empty() {
            return Err(NoteError::BadSignatures);
        }
        let mut note = Self {
            text: text.to_owned(),
            signatures: Vec::new(),
        };
        signers.iter().try_for_each(|signer| note.add(signer))?;
        Ok(note)
    }

    /// Adds the signature of `signer`, in place of one that names the same key.
    ///
    /// # Errors
    ///
    /// [`NoteError::TooManySignatures`] if the limit is reached.
    pub fn add(&mut self, signer: &SignerKey) -> Result<(), NoteError> {
        let is_other = |signature: &&NoteSignature| !signature.is_by(&signer.verifier);
        if self.signatures.iter().filter(is_other).count() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.retain(|signature| is_other(&signature));
        self.signatures.push(signer.sign(&self.text));
        Ok(())
    }

    /// The text, with the newline at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, in their order, right or wrong.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Those of `keys` that signed the text. Signatures that name none of them say nothing and are passed over.
    ///
    /// # Errors
    ///
    /// [`NoteError::WrongSignature`] if a signature names one of `keys` by name and id, and was not made with it.
    pub fn verified_by<'k>(
        &self,
        keys: &'k [VerifierKey],
    ) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut signed = Vec::new();
        for signature in &self.signatures {
            let mut named = keys.iter().filter(|key| signature.is_by(key)).peekable();
            if named.peek().is_none() {
                continue;
            }
            let by = named.find(|key| key.accepts(&self.text, &signature.bytes));
            let by = by.ok_or_else(|| NoteError::WrongSignature {
                name: signature.name.clone(),
                key_id: signature.key_id,
            })?;
            if !signed.contains(&by) {
                signed.push(by);
            }
        }
        Ok(signed)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(NoteError::TooLong);
    }
    let is_control = |c: char| c < ' ' && c != '\n';
    if !text.ends_with('\n') || text.contains(is_control) {
        return Err(NoteError::BadText);
    }
    Ok(())
}
