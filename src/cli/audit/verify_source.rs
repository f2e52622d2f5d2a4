//! Where logs are read from: an audit folder, or a bundle that is unpacked for as long as it is read.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::storage::log_folder::{FolderError, FolderReader};

/// The control log's folder.
pub(super) const CONTROL: &str = "control";
/// The folder of selected records.
pub(super) const SELECTED: &str = "selected";
/// A tail without a record is not longer: its header and a reservation.
const EMPTY_TAIL_BYTES: u64 = 8 + 17;
/// The folder of all decision logs.
pub(super) const DECISION: &str = "decision";

/// An audit folder.
#[derive(Debug)]
pub(super) struct Source {
    /// What stands in front of the names of its logs.
    prefix: String,
    root: PathBuf,
    pub(super) tells_progress: bool,
    /// Removed with the source.
    _unpacked: Option<Unpacked>,
}

/// A log of a source that can be read.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) label: String,
    pub(super) reader: FolderReader,
    checkpoints: Checkpoints,
    /// The file `hashes`.
    pub(super) hashes: Vec<u8>,
    pub(super) tells_progress: bool,
}

/// The file `checkpoints`, as long as it was before the records were looked at.
#[derive(Debug)]
struct Checkpoints {
    file: File,
    bytes: u64,
}

impl Checkpoints {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

impl OpenLog {
    /// The file `checkpoints`, from its beginning.
    pub(super) fn checkpoints(&self) -> io::Result<BufReader<io::Take<&File>>> {
        let mut file = &self.checkpoints.file;
        file.rewind()?;
        Ok(BufReader::new(file.take(self.checkpoints.bytes)))
    }
}

/// What became of opening a log.
#[derive(Debug)]
pub(super) enum Opened {
    Log(Box<OpenLog>),
    /// There is no log: its creation was never finished.
    Nothing,
    /// It holds what no writer and no crash leaves there.
    Damaged(String),
}

impl Source {
    /// The audit folder at `path`, or in the bundle there.
    pub(super) fn open(path: &Path, is_only: bool, tells_progress: bool) -> anyhow::Result<Self> {
        let metadata =
            fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let unpacked = if metadata.is_dir() {
            None
        } else {
            Some(Unpacked::new(path)?)
        };
        let root = unpacked
            .as_ref()
            .map_or_else(|| path.to_owned(), |unpacked| unpacked.folder.clone());
        let folders = [CONTROL, DECISION, SELECTED];
        if !folders.iter().any(|name| root.join(name).is_dir()) {
            return Err(anyhow!(
                "`{}` is no audit folder: it has no log",
                path.display()
            ));
        }
        let prefix = if is_only {
            String::new()
        } else {
            format!("{}/", path.display())
        };
        Ok(Self {
            prefix,
            root,
            tells_progress,
            _unpacked: unpacked,
        })
    }

    /// Whether there is a folder for the control log.
    pub(super) fn has_control(&self) -> bool {
        self.root.join(CONTROL).is_dir()
    }

    /// The names of the decision logs, sorted.
    pub(super) fn incarnations(&self) -> anyhow::Result<Vec<String>> {
        self.names(DECISION)
    }

    /// The names of the decision logs of which records were selected, sorted.
    pub(super) fn selections(&self) -> anyhow::Result<Vec<String>> {
        self.names(SELECTED)
    }

    /// The file called `name` among the selected records of `incarnation`; none if it is not there.
    pub(super) fn selected(
        &self,
        incarnation: &str,
        name: &str,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.root.join(SELECTED).join(incarnation).join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read
                .map(Some)
                .with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// How many files of selected records `incarnation` has.
    pub(super) fn selected_parts(&self, incarnation: &str) -> anyhow::Result<usize> {
        let folder = self.root.join(SELECTED).join(incarnation);
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
        let is_part = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("records-"))
        };
        Ok(entries
            .filter_map(|entry| is_part(entry).then_some(()))
            .count())
    }

    fn names(&self, below: &str) -> anyhow::Result<Vec<String>> {
        let folder = self.root.join(below);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let context = || format!("cannot list `{}`", folder.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            if entry.path().is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens the log called `name`: `control`, or a decision log's incarnation below `decision/`.
    pub(super) fn log(&self, name: &str) -> anyhow::Result<Opened> {
        let folder = self.root.join(name);
        // What was signed is settled before what was written: the log may grow meanwhile.
        let checkpoints = Checkpoints::open(&folder.join("checkpoints"));
        let io = |doing, file: &str| {
            let path = folder.join(file);
            move |source| FolderError::Io {
                doing,
                path,
                source,
            }
        };
        let opened = FolderReader::open(&folder).and_then(|reader| {
            // A log that is just being created has its checkpoints before its key.
            let checkpoints = checkpoints
                .or_else(|_| Checkpoints::open(&folder.join("checkpoints")))
                .map_err(io("open", "checkpoints"))?;
            let hashes = fs::read(folder.join("hashes")).map_err(io("read", "hashes"))?;
            Ok((reader, checkpoints, hashes))
        });
        match opened {
            Ok((reader, checkpoints, hashes)) => Ok(Opened::Log(Box::new(OpenLog {
                label: format!("{}{name}", self.prefix),
                reader,
                checkpoints,
                hashes,
                tells_progress: self.tells_progress,
            }))),
            Err(FolderError::NotALog { .. }) if is_unbegun(&folder) => Ok(Opened::Nothing),
            Err(error) => damage(error).map(Opened::Damaged),
        }
    }

    /// What a log of this source is called in reports.
    pub(super) fn label(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Whether a folder without a key holds nothing that only a log with a key has: its creation was never finished.
fn is_unbegun(folder: &Path) -> bool {
    let bytes = |name: &str| fs::metadata(folder.join(name)).map_or(0, |file| file.len());
    let mut names = fs::read_dir(folder).into_iter().flatten();
    let has_segment = names.any(|entry| {
        entry.is_ok_and(|entry| {
            Path::new(&entry.file_name())
                .extension()
                .is_some_and(|extension| extension == "seg")
        })
    });
    !has_segment
        && bytes("tail") <= EMPTY_TAIL_BYTES
        && bytes("checkpoints") == 0
        && bytes("hashes") == 0
}

/// What is damaged, if `error` says so and not only that something cannot be read now.
pub(super) fn damage(error: FolderError) -> anyhow::Result<String> {
    let is_damage = match &error {
        FolderError::Io { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
        FolderError::Failed
        | FolderError::Damaged { .. }
        | FolderError::NotEmpty { .. }
        | FolderError::NotALog { .. }
        | FolderError::Replaced { .. }
        | FolderError::TooLong { .. }
        | FolderError::NotANote
        | FolderError::Pruned { .. } => true,
    };
    let error = anyhow::Error::from(error);
    if is_damage {
        Ok(format!("{error:#}"))
    } else {
        Err(error)
    }
}

/// A bundle that was unpacked; it is removed when it is dropped.
#[derive(Debug)]
struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    fn new(bundle: &Path) -> anyhow::Result<Self> {
        let unpacked = Self {
            folder: new_folder()?,
        };
        unpacked
            .fill(bundle)
            .with_context(|| format!("`{}` is no bundle that can be read", bundle.display()))?;
        Ok(unpacked)
    }

    /// Unpacks the plain files of logs, and nothing else that may be in the archive.
    fn fill(&self, bundle: &Path) -> anyhow::Result<()> {
        let mut archive = tar::Archive::new(File::open(bundle)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let is_within = path
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            if !is_within || !entry.header().entry_type().is_file() {
                continue;
            }
            let target = self.folder.join(path);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            io::copy(&mut entry, &mut File::create_new(&target)?)?;
        }
        Ok(())
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary folder.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// A new folder in the place for temporary files, which nobody else may list.
fn new_folder() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let place = std::env::temp_dir();
    let process = std::process::id();
    for number in 0..u16::MAX {
        let folder = place.join(format!("countersign-verify-{process}-{number}"));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot create `{}`", folder.display()));
            }
        }
    }
    Err(anyhow!("cannot create a folder in `{}`", place.display()))
}
