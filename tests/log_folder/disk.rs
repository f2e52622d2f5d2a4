//! A disk that keeps a journal of what it was asked, and fails when it is told to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use countersign::storage::log_folder::disk::{Disk, DiskFile, FileIdentity};

/// What the disk was asked, by the names of files.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Create(String),
    Write(String, u64, Vec<u8>),
    Sync,
    SyncFolder,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Without having done anything.
    Nothing,
    /// After half of the bytes were written.
    Half,
    /// Although everything was done.
    Everything,
}

#[derive(Debug, Default)]
struct Journal {
    calls: Vec<Call>,
    fails: Option<(usize, Failure)>,
}

/// The disk; clones share the journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk {
    journal: Arc<Mutex<Journal>>,
}

impl TestDisk {
    /// Fails at the call number `at`, and at no other.
    pub(crate) fn failing(at: usize, failure: Failure) -> Self {
        let disk = Self::default();
        disk.journal.lock().unwrap().fails = Some((at, failure));
        disk
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.journal.lock().unwrap().calls.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.journal.lock().unwrap().calls.len()
    }

    fn note(&self, call: Call) -> Option<Failure> {
        let mut journal = self.journal.lock().unwrap();
        journal.calls.push(call);
        let number = journal.calls.len();
        journal
            .fails
            .filter(|(at, _)| *at == number)
            .map(|(_, failure)| failure)
    }

    fn file(&self, name: String, file: File) -> Box<dyn DiskFile> {
        Box::new(TestFile {
            disk: self.clone(),
            name,
            file,
        })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn failed<T>() -> io::Result<T> {
    Err(io::Error::other("as told"))
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let failure = self.note(Call::Create(name(path)));
        if failure.is_some_and(|failure| failure != Failure::Everything) {
            return failed();
        }
        let file = File::create_new(path)?;
        failure.map_or_else(|| Ok(self.file(name(path), file)), |_| failed())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().write(true).open(path)?;
        Ok(self.file(name(path), file))
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        self.note(Call::SyncFolder).map_or(Ok(()), |_| failed())
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        path.symlink_metadata().map(FileIdentity::from)
    }
}

#[derive(Debug)]
struct TestFile {
    disk: TestDisk,
    name: String,
    file: File,
}

impl DiskFile for TestFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let failure = self
            .disk
            .note(Call::Write(self.name.clone(), offset, bytes.to_vec()));
        let written = match failure {
            None | Some(Failure::Everything) => bytes,
            Some(Failure::Half) => &bytes[..bytes.len() / 2],
            Some(Failure::Nothing) => &[],
        };
        self.file.write_all_at(written, offset)?;
        failure.map_or(Ok(()), |_| failed())
    }

    fn sync(&mut self) -> io::Result<()> {
        let failure = self.disk.note(Call::Sync);
        failure.map_or(Ok(()), |_| failed())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.file.metadata().map(FileIdentity::from)
    }
}

/// A new path in a new folder, which goes with the second value.
pub(crate) fn new_folder() -> (PathBuf, tempfile::TempDir) {
    // Thousands of syncs take long on a disk, and prove nothing here.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let parent = parent.unwrap();
    (parent.path().join("log"), parent)
}
