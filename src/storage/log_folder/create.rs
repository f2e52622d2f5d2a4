//! Creates a log folder, and opens one again to go on where it ended.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::audit::tree::Frontier;

use super::disk::{Disk, FOLDER_MODE, OpenFile, SystemDisk};
use super::error::FolderError;
use super::format::{CHECKPOINTS, HASHES, KEY, TAIL, TAIL_MAGIC, TailFrame};
use super::recover::{Extent, Survey, survey};
use super::tail_writer::TailWriter;
use super::writer::{Files, FolderSettings, FolderWriter, sync_folder};

impl FolderWriter {
    /// Begins a log in `folder`, which is made if it is not there. `key_lines` are the log's verifier keys, one a line.
    ///
    /// # Errors
    /// [`FolderError::NotEmpty`] if there is anything in the folder, and [`FolderError::Io`]; the folder holds no log then.
    pub fn create(
        folder: &Path,
        key_lines: &str,
        settings: FolderSettings,
    ) -> Result<Self, FolderError> {
        Self::create_on(Box::new(SystemDisk), folder, key_lines, settings)
    }

    /// The same, on a disk of the caller's.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_on(
        disk: Box<dyn Disk>,
        folder: &Path,
        key_lines: &str,
        settings: FolderSettings,
    ) -> Result<Self, FolderError> {
        make_folder(disk.as_ref(), folder)?;
        let mut entries = fs::read_dir(folder).map_err(FolderError::io("list", folder))?;
        if entries.next().is_some() {
            return Err(FolderError::NotEmpty {
                folder: folder.to_owned(),
            });
        }
        let create = |name: &str| OpenFile::create(disk.as_ref(), folder.join(name));
        let hashes = create(HASHES)?;
        let checkpoints = create(CHECKPOINTS)?;
        let mut tail = create(TAIL)?;
        let mut bytes = TAIL_MAGIC.to_vec();
        if settings.reserve > 0 {
            TailFrame::reservation(settings.reserve).write(&mut bytes);
        }
        tail.append(&bytes)?;
        sync_folder(disk.as_ref(), folder)?;
        // With its key the folder is a log: all else is there by now.
        create(KEY)?.append(key_lines.as_bytes())?;
        sync_folder(disk.as_ref(), folder)?;
        let slot = (settings.reserve > 0).then_some(settings.reserve);
        let files = Files {
            folder: folder.to_owned(),
            disk,
            segment: None,
            earlier_bytes: 0,
            hashes,
            tail: TailWriter::new(tail, slot, settings.reserve, settings.reserve),
            checkpoints,
        };
        Self::new(files, Frontier::new(), [].into_iter(), settings)
    }

    /// Goes on with the log in `folder`, exactly where it ended: recovers it, and cuts off what a crash left unfinished.
    ///
    /// No one else may be writing to it.
    ///
    /// # Errors
    /// As [`super::recover()`] of the last segment, and [`FolderError::Io`].
    pub fn reopen(folder: &Path, settings: FolderSettings) -> Result<Self, FolderError> {
        Self::reopen_on(Box::new(SystemDisk), folder, settings)
    }

    /// The same, on a disk of the caller's. Recovery and the cutting go past it.
    ///
    /// # Errors
    /// As [`Self::reopen`].
    pub fn reopen_on(
        disk: Box<dyn Disk>,
        folder: &Path,
        settings: FolderSettings,
    ) -> Result<Self, FolderError> {
        let survey = survey(folder, Extent::LastSegment)?;
        cut(folder, &survey)?;
        let open = |path: PathBuf, end| OpenFile::open(disk.as_ref(), path, end);
        let last = survey.segments.last();
        let segment = last.map(|segment| open(segment.path.clone(), survey.segment_end));
        let segment = segment.transpose()?;
        let hashes = open(folder.join(HASHES), survey.hashes_end)?;
        let checkpoints = open(folder.join(CHECKPOINTS), survey.checkpoints_end)?;
        let tail_file = open(folder.join(TAIL), survey.tail.end)?;
        let reserved = survey.tail.reserved;
        let mut tail = TailWriter::new(tail_file, survey.tail.slot, reserved, settings.reserve);
        if survey.tail.size() == survey.tail.first {
            // INVARIANT (reserved-grows): the first frame is made good before what lies behind it is cut off.
            tail.restart()?;
        }
        cut_file(&folder.join(TAIL), tail.file().end())?;
        tail.commit(survey.tail.size())?;
        let files = Files {
            folder: folder.to_owned(),
            disk,
            segment,
            earlier_bytes: survey.earlier_bytes,
            hashes,
            tail,
            checkpoints,
        };
        Self::new(files, survey.bundled, survey.tail.records(), settings)
    }
}

/// Cuts off what lies beyond the log in all files but the tail, and puts on the disk what does not: the log may have been read from memory only.
fn cut(folder: &Path, survey: &Survey) -> Result<(), FolderError> {
    for path in &survey.surplus {
        fs::remove_file(path).map_err(FolderError::io("remove", path))?;
    }
    if let Some(last) = survey.segments.last() {
        cut_file(&last.path, survey.segment_end)?;
    }
    cut_file(&folder.join(HASHES), survey.hashes_end)?;
    cut_file(&folder.join(CHECKPOINTS), survey.checkpoints_end)?;
    sync_folder(&SystemDisk, folder)
}

fn cut_file(path: &Path, end: u64) -> Result<(), FolderError> {
    let file = File::options().write(true).open(path);
    let file = file.map_err(FolderError::io("open", path))?;
    file.set_len(end).map_err(FolderError::io("cut", path))?;
    file.sync_all().map_err(FolderError::io("sync", path))
}

/// Makes `folder` and what is missing above it, and puts each new name on the disk.
fn make_folder(disk: &dyn Disk, folder: &Path) -> Result<(), FolderError> {
    let missing = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let missing: Vec<&Path> = missing.collect();
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(FOLDER_MODE).create(path) {
            // Another log's creation may have been faster with a folder above both.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(FolderError::io("create", path))?,
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        sync_folder(disk, parent.unwrap_or_else(|| Path::new(".")))?;
    }
    Ok(())
}
