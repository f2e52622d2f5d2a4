//! The policy directory on disk: reads it whole, and tells when it changes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::time::Instant;
use walkdir::{DirEntry, WalkDir};

use crate::model::PolicyProblem;
use crate::policy::{Bundle, BundleFile, BundleLimits, FileKind};
use crate::usecase::ports::PolicySource;

/// How long changes may go on before they are told of all the same: some file may never rest.
const LONGEST_UNREST: Duration = Duration::from_secs(1);

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
        let identity = self.identity();
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
            identity,
            changes,
        })
    }

    /// Which directory the path leads to, links followed; none if there is none.
    fn identity(&self) -> Option<Identity> {
        let metadata = fs::metadata(&self.root).ok()?;
        metadata.is_dir().then(|| Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
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

/// A directory, whatever its path is at the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// Tells of changes.
#[derive(Debug)]
pub struct DirWatch {
    _watcher: notify::RecommendedWatcher,
    identity: Option<Identity>,
    changes: mpsc::Receiver<()>,
}

impl DirWatch {
    /// Waits until something changed, at most for `patience`, and then until all stayed as it is for `quiet`, at most for a second.
    /// Answers whether anything changed.
    pub fn wait(&self, patience: Duration, quiet: Duration) -> bool {
        if self.changes.recv_timeout(patience).is_err() {
            return false;
        }
        let first_change = Instant::now();
        while self.changes.recv_timeout(quiet).is_ok() && first_change.elapsed() < LONGEST_UNREST {}
        true
    }

    /// Whether what is watched is still the directory that `dir` leads to. One that was replaced, or that a link does not lead to any
    /// more, tells of nothing.
    pub fn is_of(&self, dir: &PolicyDir) -> bool {
        self.identity.is_some() && self.identity == dir.identity()
    }
}
