//! A policy directory that a test may change.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A policy directory in a temporary folder of its own; goes away with this value.
#[derive(Debug)]
pub(crate) struct Folder {
    temporary: TempDir,
}

impl Folder {
    /// A copy of the sample policies.
    pub(crate) fn sample() -> Self {
        let folder = Self::empty();
        copy(&sample_dir(), &folder.path());
        folder
    }

    /// Only these files, by their paths.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self::empty();
        for (file, text) in files {
            folder.write(file, text);
        }
        folder
    }

    fn empty() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("policies")).unwrap();
        Self { temporary }
    }

    /// The policy directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.beside("policies")
    }

    /// A path in the same temporary folder, outside the policy directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }

    /// Writes a file as an editor does that writes in place.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a file as an editor does that writes beside and renames.
    pub(crate) fn replace(&self, file: &str, text: &str) {
        let beside = self.beside("being-written");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path().join(file)).unwrap();
    }

    /// Replaces the one place where `file` says `old`.
    pub(crate) fn edit(&self, file: &str, old: &str, new: &str) {
        let text = self.read(file);
        assert_eq!(text.matches(old).count(), 1, "`{old}` in {file}");
        self.write(file, &text.replace(old, new));
    }
}

/// The sample policies of the repository.
pub(crate) fn sample_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
