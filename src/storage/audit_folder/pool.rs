//! Log folders that are open: each is lent to one question at a time, so that it can look what was written since.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::storage::log_folder::FolderReader;
use crate::usecase::audit_reading::{CONTROL, ReadError};

use super::from_folder;

/// How many readers are kept open between questions. Each holds up to six files.
const MAX_IDLE: usize = 32;
/// Where the decision logs are.
const DECISION: &str = "decision";

/// The logs in an audit folder.
#[derive(Debug)]
pub(super) struct Pool {
    root: PathBuf,
    idle: Mutex<Vec<(String, FolderReader)>>,
}

impl Pool {
    /// Lends readers of the logs below `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            idle: Mutex::default(),
        }
    }

    /// The audit folder.
    pub(super) fn root(&self) -> &PathBuf {
        &self.root
    }

    /// The names of the logs: the control log, then the decision logs, latest started first. A folder may be no log yet.
    pub(super) fn names(&self) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        let unreadable = |error: std::io::Error| ReadError::Unreadable {
            log: DECISION.to_owned(),
            what: error.to_string(),
        };
        match fs::read_dir(self.root.join(DECISION)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            entries => {
                for entry in entries.map_err(unreadable)? {
                    let name = entry.map_err(unreadable)?.file_name();
                    let name = name.to_str().filter(|name| is_incarnation(name));
                    names.extend(name.map(str::to_owned));
                }
            }
        }
        // An incarnation begins with the time of the start.
        names.sort_unstable_by(|one, other| other.cmp(one));
        names.insert(0, CONTROL.to_owned());
        Ok(names)
    }

    /// Where the log is.
    pub(super) fn folder(&self, log: &str) -> Result<PathBuf, ReadError> {
        match log {
            CONTROL => Ok(self.root.join(CONTROL)),
            // A name comes from outside: only what cannot lead elsewhere becomes part of a path.
            name if is_incarnation(name) => Ok(self.root.join(DECISION).join(name)),
            name => Err(ReadError::NoSuchLog(name.to_owned())),
        }
    }

    /// A reader of the log as it is now.
    pub(super) fn take(&self, log: &str) -> Result<FolderReader, ReadError> {
        let folder = self.folder(log)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.iter().position(|(name, _)| name == log);
        let kept = kept.map(|at| idle.swap_remove(at).1);
        drop(idle);
        // A log that was removed and made anew is opened anew.
        if let Some(mut reader) = kept
            && folder.join("key").exists()
            && reader.refresh().is_ok()
        {
            return Ok(reader);
        }
        FolderReader::open(&folder).map_err(|error| from_folder(log, &error))
    }

    /// Takes a reader back.
    pub(super) fn give(&self, log: &str, reader: FolderReader) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_IDLE {
            idle.swap_remove(0);
        }
        idle.push((log.to_owned(), reader));
    }
}

fn is_incarnation(name: &str) -> bool {
    name.parse::<Uuid>().is_ok_and(|id| id.to_string() == name)
}
