//! The raw files of one policy set.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::model::{PolicyProblem, PolicyVersion};

/// What a file of the policy directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `schema.cedarschema`.
    Schema,
    /// `*.cedar`.
    Policies,
    /// `entities/**/*.json`.
    Entities,
    /// `links/**/*.json`.
    Links,
    /// `approvals.toml`.
    Rules,
    /// `tests/**/*.yaml`.
    Cases,
}

impl FileKind {
    /// What the file at `path` (relative, `/` between names) is for; none if the policy set does not read it.
    pub fn of(path: &str) -> Option<Self> {
        let (folder, _) = path.split_once('/').unwrap_or(("", path));
        let (_, extension) = path.rsplit_once('.')?;
        match (folder, extension) {
            (_, "cedarschema") => Some(Self::Schema),
            (_, "cedar") => Some(Self::Policies),
            ("entities", "json") => Some(Self::Entities),
            ("links", "json") => Some(Self::Links),
            ("tests", "yaml" | "yml") => Some(Self::Cases),
            ("", "toml") if path == "approvals.toml" => Some(Self::Rules),
            _ => None,
        }
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Relative to the policy directory, `/` between names.
    pub path: String,
    /// As it was read.
    pub bytes: Vec<u8>,
}

/// How large a bundle may be.
#[derive(Clone, Copy, Debug)]
pub struct BundleLimits {
    /// Files.
    pub files: usize,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Policies, links included.
    pub policies: usize,
}

impl BundleLimits {
    /// The limits this server keeps: 10,000 files, 64 MiB each, 256 MiB in all, 200,000 policies.
    pub const DEFAULT: Self = Self {
        files: 10_000,
        file_bytes: 64 * 1024 * 1024,
        total_bytes: 256 * 1024 * 1024,
        policies: 200_000,
    };
}

/// The files of one policy set. Invariant (sorted): by path, each path once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    files: Vec<BundleFile>,
    version: PolicyVersion,
}

impl Bundle {
    /// Makes a bundle of the files that a policy set reads; others are left out.
    ///
    /// The version is the SHA-256 of the sorted manifest (each path with the SHA-256 of its content), so the same files always
    /// give the same version, wherever and in whatever order they were read.
    pub fn new(files: impl IntoIterator<Item = BundleFile>) -> Self {
        let mut files: Vec<BundleFile> = files
            .into_iter()
            .filter(|file| FileKind::of(&file.path).is_some())
            .collect();
        files.sort_by(|left, right| left.path.cmp(&right.path));
        files.dedup_by(|left, right| left.path == right.path);
        let version = digest(&files);
        Self { files, version }
    }

    /// The content digest.
    pub fn version(&self) -> &PolicyVersion {
        &self.version
    }

    /// The files, by path.
    pub fn files(&self) -> &[BundleFile] {
        &self.files
    }

    /// The texts of one kind of file, by path; a file that is not UTF-8 becomes a problem.
    pub(super) fn texts(
        &self,
        kind: FileKind,
        problems: &mut Vec<PolicyProblem>,
    ) -> Vec<(&str, &str)> {
        let mut texts = Vec::new();
        for file in self
            .files
            .iter()
            .filter(|file| FileKind::of(&file.path) == Some(kind))
        {
            match std::str::from_utf8(&file.bytes) {
                Ok(text) => texts.push((file.path.as_str(), text)),
                Err(error) => problems.push(
                    PolicyProblem::error(
                        &file.path,
                        format!("the file is not UTF-8 at byte {}", error.valid_up_to()),
                    )
                    .with_help("save it as UTF-8"),
                ),
            }
        }
        texts
    }
}

fn digest(files: &[BundleFile]) -> PolicyVersion {
    let mut manifest = Sha256::new();
    manifest.update(b"countersign policy bundle v1\0");
    for file in files {
        manifest.update(file.path.as_bytes());
        manifest.update(b"\0");
        manifest.update(Sha256::digest(&file.bytes));
    }
    let hex = manifest
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    PolicyVersion::new(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> BundleFile {
        BundleFile {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_order_of_reading_does_not_change_the_version() {
        let one = Bundle::new([file("a.cedar", "x"), file("b.cedar", "y")]);
        let other = Bundle::new([
            file("b.cedar", "y"),
            file("a.cedar", "x"),
            file("README.md", "z"),
        ]);
        assert_eq!(one.version(), other.version());
    }

    #[test]
    fn moving_text_between_files_changes_the_version() {
        let one = Bundle::new([file("a.cedar", "xy"), file("b.cedar", "")]);
        let other = Bundle::new([file("a.cedar", "x"), file("b.cedar", "y")]);
        assert_ne!(one.version(), other.version());
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_a_problem_that_names_it() {
        let bundle = Bundle::new([BundleFile {
            path: "a.cedar".to_owned(),
            bytes: vec![b'a', 0xff],
        }]);
        let mut problems = Vec::new();
        assert!(bundle.texts(FileKind::Policies, &mut problems).is_empty());
        assert_eq!(
            problems[0].to_string(),
            "a.cedar: the file is not UTF-8 at byte 1"
        );
    }
}
