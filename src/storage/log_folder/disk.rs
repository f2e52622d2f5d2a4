//! What the writer asks of the disk: a seam, so that a test can stand for a disk that fails.

use std::fmt::Debug;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::FolderError;
use super::format::count;

/// Who may read a log's files: their owner and its group.
pub(super) const FILE_MODE: u32 = 0o640;
/// Who may list a log's folder.
pub(super) const FOLDER_MODE: u32 = 0o750;

/// Opens files and looks after folders.
pub trait Disk: Debug + Send {
    /// Makes a file where there is none, for writing.
    ///
    /// # Errors
    /// What the system says, also if there is a file already.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, for writing.
    ///
    /// # Errors
    /// What the system says, also if there is no file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Puts the names within a folder on the disk.
    ///
    /// # Errors
    /// What the system says; the names may or may not be on the disk then.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Which file is at `path` now.
    ///
    /// # Errors
    /// What the system says, also if there is none.
    fn identity(&self, path: &Path) -> io::Result<FileIdentity>;
}

/// A file that is open for writing.
pub trait DiskFile: Debug + Send {
    /// Writes all `bytes`, from byte `offset` of the file on.
    ///
    /// # Errors
    /// What the system says; any part of the bytes may have been written then.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Puts what was written on the disk, with the file's length.
    ///
    /// # Errors
    /// What the system says; nothing written since the last sync may be relied on then, and no later sync tells of it.
    fn sync(&mut self) -> io::Result<()>;

    /// Which file this is.
    ///
    /// # Errors
    /// What the system says.
    fn identity(&self) -> io::Result<FileIdentity>;
}

/// A file, whatever its path is at the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The device it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// How many names it has; none once it was removed.
    pub links: u64,
}

impl From<Metadata> for FileIdentity {
    fn from(metadata: Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            links: metadata.nlink(),
        }
    }
}

/// The disk itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(FILE_MODE);
        Ok(Box::new(options.open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        path.symlink_metadata().map(FileIdentity::from)
    }
}

impl DiskFile for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.metadata().map(FileIdentity::from)
    }
}

/// A file that is being written, at the path where readers find it.
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    end: u64,
}

impl OpenFile {
    /// A new, empty file.
    pub(super) fn create(disk: &dyn Disk, path: PathBuf) -> Result<Self, FolderError> {
        let file = disk
            .create(&path)
            .map_err(FolderError::io("create", &path))?;
        Ok(Self { path, file, end: 0 })
    }

    /// A file that is there, to be written from byte `end` on.
    pub(super) fn open(disk: &dyn Disk, path: PathBuf, end: u64) -> Result<Self, FolderError> {
        let file = disk.open(&path).map_err(FolderError::io("open", &path))?;
        Ok(Self { path, file, end })
    }

    /// Where the next byte goes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Lets the next byte go elsewhere.
    pub(super) fn move_end(&mut self, end: u64) {
        self.end = end;
    }

    /// Writes `bytes` at the end and puts them on the disk. The end does not move.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        let written = self.file.write_at(bytes, self.end);
        written.map_err(FolderError::io("write to", &self.path))?;
        self.file
            .sync()
            .map_err(FolderError::io("sync", &self.path))
    }

    /// Writes `bytes` at the end, puts them on the disk and moves the end behind them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        self.write(bytes)?;
        self.end = self.end.saturating_add(count(bytes.len()));
        Ok(())
    }

    /// Whether the path still leads to the file, and nowhere else does.
    pub(super) fn still_there(&self, disk: &dyn Disk) -> Result<(), FolderError> {
        let open = self.file.identity();
        let open = open.map_err(FolderError::io("look at", &self.path))?;
        let is_there = match disk.identity(&self.path) {
            Ok(named) => named == open && open.links == 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(FolderError::io("look at", &self.path)(error)),
        };
        is_there.then_some(()).ok_or_else(|| FolderError::Replaced {
            path: self.path.clone(),
        })
    }
}
