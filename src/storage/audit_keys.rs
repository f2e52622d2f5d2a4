//! The secret keys of the audit log, in files that only their owner may read.
//!
//! Never: a key in an error, a log line or a debug form.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::audit::note::{KeyError, SignerKey};
use crate::audit::redaction::RedactionKey;

/// The secret keys that sign the control log, the newest last, one a line.
const CONTROL: &str = "control.key";
/// The key under which values are hashed that may only be compared, in base64.
const REDACTION: &str = "redaction.key";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeysError {
    /// A file cannot be read or written.
    #[error("`{}` cannot be used", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read a key.
    #[error("`{}` may be read by others: `chmod 600` it, and add a new key, since this one may be known", .0.display())]
    Exposed(PathBuf),
    /// A file does not hold keys.
    #[error("`{}`, line {line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// There is a log, and the keys that it was written with are gone.
    #[error(
        "`{}` is not there, and there is a log already: put the file back. A new key would begin another log, whose history ends where this one begins",
        .0.display()
    )]
    Gone(PathBuf),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// The secret keys of an audit log.
#[derive(Debug)]
pub struct AuditKeys {
    /// Those that sign the control log, the newest last; at least one. Their name is the log's origin.
    pub control: Vec<SignerKey>,
    /// The one under which values are hashed.
    pub redaction: RedactionKey,
}

impl AuditKeys {
    /// Reads the keys in `folder`.
    ///
    /// # Errors
    /// [`AuditKeysError`].
    pub fn read(folder: &Path) -> Result<Self, AuditKeysError> {
        Ok(Self {
            control: read_control(&folder.join(CONTROL))?,
            redaction: read_redaction(&folder.join(REDACTION))?,
        })
    }

    /// Reads the keys in `folder`, or makes them if there are none and `has_log` says that none were used before. The origin of a
    /// new control log is `<cluster>/control`; without a name the cluster is called after its first key.
    ///
    /// # Errors
    /// [`AuditKeysError`].
    pub fn read_or_make(
        folder: &Path,
        cluster: Option<&str>,
        has_log: bool,
    ) -> Result<Self, AuditKeysError> {
        let (control, redaction) = (folder.join(CONTROL), folder.join(REDACTION));
        if control.exists() && redaction.exists() {
            return Self::read(folder);
        }
        if has_log {
            let gone = [control, redaction].into_iter().find(|path| !path.exists());
            return Err(AuditKeysError::Gone(gone.unwrap_or_default()));
        }
        fs::create_dir_all(folder).map_err(io_at(folder))?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io_at(folder))?;
        if !redaction.exists() {
            let key = BASE64_STANDARD.encode(random()?);
            write_secret(&redaction, &format!("{key}\n"))?;
        }
        if !control.exists() {
            let seed = random()?;
            let cluster = cluster.map_or_else(|| named_after(&seed), str::to_owned);
            let key = SignerKey::from_seed(&format!("{cluster}/control"), &seed);
            let key = key.map_err(malformed(&control, 1))?;
            write_secret(&control, &format!("{}\n", key.to_text()))?;
        }
        Self::read(folder)
    }

    /// Adds a new key behind the present ones in `folder`; it signs as soon as the server has read it. Answers the new key.
    ///
    /// # Errors
    /// [`AuditKeysError`]; nothing was changed then.
    pub fn add(folder: &Path) -> Result<SignerKey, AuditKeysError> {
        let path = folder.join(CONTROL);
        let mut keys = read_control(&path)?;
        let name = keys.first().map(|key| key.verifier().name().to_owned());
        let key = SignerKey::from_seed(&name.unwrap_or_default(), &random()?);
        keys.push(key.map_err(malformed(&path, 1))?);
        write_control(&path, &keys)?;
        keys.pop().ok_or(AuditKeysError::Gone(path))
    }

    /// Takes the oldest key out of `folder`, unless it is the only one. Answers whether there was one to take.
    ///
    /// # Errors
    /// [`AuditKeysError`]; nothing was changed then.
    pub fn retire(folder: &Path) -> Result<Option<SignerKey>, AuditKeysError> {
        let path = folder.join(CONTROL);
        let mut keys = read_control(&path)?;
        if keys.len() < 2 {
            return Ok(None);
        }
        let oldest = keys.remove(0);
        write_control(&path, &keys)?;
        Ok(Some(oldest))
    }
}

/// A key for a log that nobody else will sign; it is never written down.
///
/// # Errors
/// [`AuditKeysError::Random`], or a name that is none.
pub fn passing_key(name: &str) -> Result<SignerKey, AuditKeysError> {
    SignerKey::from_seed(name, &random()?).map_err(malformed(Path::new(name), 1))
}

/// A name that no other cluster has.
fn named_after(seed: &[u8; 32]) -> String {
    let digest: [u8; 32] = Sha256::digest(seed).into();
    let [first, second, third, fourth, ..] = digest;
    let number = u32::from_be_bytes([first, second, third, fourth]);
    format!("countersign-{number:08x}")
}

fn random() -> Result<[u8; 32], AuditKeysError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| AuditKeysError::Random(error.to_string()))?;
    Ok(bytes)
}

fn read_control(path: &Path) -> Result<Vec<SignerKey>, AuditKeysError> {
    let text = read_secret(path)?;
    let mut keys: Vec<SignerKey> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index.saturating_add(1);
        let key = SignerKey::from_text(line).map_err(malformed(path, line_number))?;
        let name = key.verifier().name();
        if keys.iter().any(|known| known.verifier().name() != name) {
            return Err(AuditKeysError::Malformed {
                path: path.to_owned(),
                line: line_number,
                message: "is the key of another log".to_owned(),
            });
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(AuditKeysError::Malformed {
            path: path.to_owned(),
            line: 1,
            message: "there is no key".to_owned(),
        });
    }
    Ok(keys)
}

fn read_redaction(path: &Path) -> Result<RedactionKey, AuditKeysError> {
    let text = read_secret(path)?;
    let bytes = BASE64_STANDARD.decode(text.trim()).ok();
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| AuditKeysError::Malformed {
        path: path.to_owned(),
        line: 1,
        message: "is not 32 bytes in base64".to_owned(),
    })?;
    Ok(RedactionKey(bytes))
}

fn write_control(path: &Path, keys: &[SignerKey]) -> Result<(), AuditKeysError> {
    let lines = keys.iter().map(|key| format!("{}\n", key.to_text()));
    write_secret(path, &lines.collect::<String>())
}

fn read_secret(path: &Path) -> Result<String, AuditKeysError> {
    let metadata = fs::metadata(path).map_err(io_at(path))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(AuditKeysError::Exposed(path.to_owned()));
    }
    fs::read_to_string(path).map_err(io_at(path))
}

/// Writes the whole file or nothing.
fn write_secret(path: &Path, text: &str) -> Result<(), AuditKeysError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        // What a killed process left half written.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(io_at(path))
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> AuditKeysError {
    let path = path.to_owned();
    move |source| AuditKeysError::Io { path, source }
}

fn malformed(path: &Path, line: usize) -> impl FnOnce(KeyError) -> AuditKeysError {
    let path = path.to_owned();
    move |error| AuditKeysError::Malformed {
        path,
        line,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_added_and_retired() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let made = AuditKeys::read_or_make(&folder, Some("c"), false).unwrap();
        let again = AuditKeys::read_or_make(&folder, Some("other"), true).unwrap();
        let texts = |keys: &[SignerKey]| keys.iter().map(SignerKey::to_text).collect::<Vec<_>>();
        assert_eq!(texts(&made.control), texts(&again.control));
        assert_eq!(made.redaction.0, again.redaction.0);
        assert_eq!(made.control[0].verifier().name(), "c/control");
        assert!(AuditKeys::retire(&folder).unwrap().is_none());
        let added = AuditKeys::add(&folder).unwrap();
        let retired = AuditKeys::retire(&folder).unwrap().unwrap();
        assert_eq!(retired.to_text(), made.control[0].to_text());
        let left = AuditKeys::read(&folder).unwrap().control;
        assert_eq!(texts(&left), [added.to_text()]);
        let mode = fs::metadata(folder.join(CONTROL)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lost_exposed_or_damaged_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let missing = AuditKeys::read_or_make(folder, None, true);
        assert!(matches!(missing, Err(AuditKeysError::Gone(_))));
        AuditKeys::read_or_make(folder, None, false).unwrap();
        let control = folder.join(CONTROL);
        fs::set_permissions(&control, Permissions::from_mode(0o640)).unwrap();
        let exposed = AuditKeys::read_or_make(folder, None, true);
        assert!(matches!(exposed, Err(AuditKeysError::Exposed(_))));
        fs::set_permissions(&control, Permissions::from_mode(0o600)).unwrap();
        fs::write(&control, "nonsense\n").unwrap();
        let damaged = AuditKeys::read_or_make(folder, None, true).unwrap_err();
        assert!(damaged.to_string().contains("line 1"), "{damaged}");
        assert!(!damaged.to_string().contains("nonsense"));
    }
}
