//! The policy directory on disk: reads it whole, and tells when it changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use walkdir::{DirEntry, WalkDir};

use crate::model::PolicyProblem;
use crate::policy::{Bundle, BundleFile, BundleLimits, FileKind};
use crate::usecase::ports::PolicySource;

/// A policy directory.
#[derive(Clone, Debug)]
pub struct PolicyDir {
    root: PathBuf,
    limits: BundleLimits,
}

impl PolicyDir {
    /// The directory at `root`; it need not exist yet.
    pub fn new(root: impl Into<PathBuf>, limits: BundleLimits) -> Self {
        Self {
            root: root.into(),
            limits,
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts to watch for changes.
    ///
    /// A directory that cannot be watched (it does not exist, or the system is out of watches) is still read again at every
    /// rescan, so the error is for the log.
    ///
    /// # Errors
    /// Why it cannot be watched.
    pub fn watch(&self) -> Result<DirWatch, notify::Error> {
        let (sender, changes) = mpsc::channel();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading the directory is no change of it. Nobody listens any more once the server stops.
                if event.is_ok_and(|event| !event.kind.is_access()) {
                    let _ = sender.send(());
                }
            })?;
        watcher.watch(&self.root, RecursiveMode::Recursive)?;
        Ok(DirWatch {
            _watcher: watcher,
            changes,
        })
    }

    fn read_files(&self) -> Result<Vec<BundleFile>, PolicyProblem> {
        let mut files = Vec::new();
        let mut total: u64 = 0;
        let walk = WalkDir::new(&self.root)
            .follow_links(true)
            .max_depth(32)
            .sort_by_file_name();
        for entry in walk.into_iter().filter_entry(is_visible) {
            let entry = entry.map_err(|error| self.unreadable(error.path(), &error))?;
            let Some(path) = self
                .relative(entry.path())
                .filter(|path| FileKind::of(path).is_some())
            else {
                continue;
            };
            if entry.file_type().is_dir() {
                continue;
            }
            let bytes = self.read_file(entry.path())?;
            total = total.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            files.push(BundleFile { path, bytes });
            if files.len() > self.limits.files {
                return Err(PolicyProblem::error(
                    "",
                    format!("there are more than {} files", self.limits.files),
                ));
            }
            if total > self.limits.total_bytes {
                let message = format!("the files hold more than {} bytes", self.limits.total_bytes);
                return Err(PolicyProblem::error("", message));
            }
        }
        Ok(files)
    }

    fn read_file(&self, path: &Path) -> Result<Vec<u8>, PolicyProblem> {
        let size = fs::metadata(path)
            .map_err(|error| self.unreadable(Some(path), &error))?
            .len();
        if size > self.limits.file_bytes {
            let name = self.relative(path).unwrap_or_default();
            let message = format!(
                "the file has {size} bytes, more than {}",
                self.limits.file_bytes
            );
            return Err(PolicyProblem::error(name, message));
        }
        fs::read(path).map_err(|error| self.unreadable(Some(path), &error))
    }

    /// The path below the directory with `/` between names; none if it is not UTF-8.
    fn relative(&self, path: &Path) -> Option<String> {
        let relative = path.strip_prefix(&self.root).ok()?;
        let names: Option<Vec<&str>> = relative
            .components()
            .map(|part| part.as_os_str().to_str())
            .collect();
        names.map(|names| names.join("/"))
    }

    fn unreadable(&self, path: Option<&Path>, error: &dyn std::error::Error) -> PolicyProblem {
        let path = path.unwrap_or(&self.root);
        let file = self.relative(path).unwrap_or_default();
        let cause = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string);
        let help = format!(
            "check that `{}` exists and can be read by this user",
            path.display()
        );
        PolicyProblem::error(
            file,
            format!("`{}` cannot be read: {cause}", path.display()),
        )
        .with_help(help)
    }
}

/// Names that begin with a dot are an editor's, a version control's or a mounted volume's own.
fn is_visible(entry: &DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
}

impl PolicySource for PolicyDir {
    /// Reads every file, twice if need be: a directory that changes while it is read is read again, so that no mixture of before
    /// and after is ever compiled.
    fn read(&self) -> Result<Bundle, PolicyProblem> {
        const TRIES: usize = 5;
        if !self.root.is_dir() {
            let missing = io::Error::new(io::ErrorKind::NotFound, "it is not a directory");
            return Err(self.unreadable(None, &missing));
        }
        let mut bundle = Bundle::new(self.read_files()?);
        for _ in 0..TRIES {
            let again = Bundle::new(self.read_files()?);
            if again.version() == bundle.version() {
                return Ok(again);
            }
            bundle = again;
        }
        Err(
            PolicyProblem::error("", "the directory keeps changing while it is read")
                .with_help("it is read again soon"),
        )
    }
}

/// Tells of changes.
#[derive(Debug)]
pub struct DirWatch {
    _watcher: notify::RecommendedWatcher,
    changes: mpsc::Receiver<()>,
}

impl DirWatch {
    /// Waits until something changed and then stayed as it is for `quiet`, at most for `patience`. Answers whether it changed.
    pub fn wait(&self, patience: Duration, quiet: Duration) -> bool {
        if self.changes.recv_timeout(patience).is_err() {
            return false;
        }
        while self.changes.recv_timeout(quiet).is_ok() {}
        true
    }
}
