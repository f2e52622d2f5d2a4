//! The file `checkpoints`: signed notes, oldest first, each followed by an empty line.
//!
//! A note is taken as text here: its lines, an empty line, and its signatures, each a line that begins with a dash.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::FolderError;
use super::format::{CHECKPOINTS, MAX_NOTE_BYTES, count};

/// What a signature line of a note begins with.
const SIGNATURE: &[u8] = "\u{2014} ".as_bytes();
/// So much from the end of the file holds the last whole note, its predecessor's end and what a crash cut off.
const WINDOW_BYTES: u64 = 4 * (1 << 16);

/// The text of a checkpoints file for `note`; none unless it is one note.
pub(super) fn with_empty_line(note: &str) -> Option<String> {
    let text = format!("{note}\n");
    let mut notes = Notes::new(text.as_bytes(), PathBuf::new(), 0);
    let first = notes.next()?.ok()?;
    (first.text == note && notes.end == count(text.len())).then_some(text)
}

/// A whole note in the file.
#[derive(Debug)]
pub(super) struct PlacedNote {
    pub(super) text: String,
    /// Where the note and its empty line end.
    pub(super) end: u64,
}

/// Notes one after the other, up to the first that is not whole.
#[derive(Debug)]
pub(super) struct Notes<R> {
    source: R,
    path: PathBuf,
    end: u64,
}

/// The notes of the log in `folder`.
pub(super) fn notes(folder: &Path) -> Result<Notes<BufReader<File>>, FolderError> {
    let path = folder.join(CHECKPOINTS);
    let file = File::open(&path).map_err(FolderError::io("open", &path))?;
    Ok(Notes::new(BufReader::new(file), path, 0))
}

/// The last whole note of the log in `folder`, with how many bytes the file has. Looks only at the end of the file.
pub(super) fn last_note(folder: &Path) -> Result<(Option<PlacedNote>, u64), FolderError> {
    let path = folder.join(CHECKPOINTS);
    let mut file = File::open(&path).map_err(FolderError::io("open", &path))?;
    let metadata = file.metadata().map_err(FolderError::io("look at", &path))?;
    let bytes = metadata.len();
    let start = bytes.saturating_sub(WINDOW_BYTES);
    let moved = file.seek(SeekFrom::Start(start));
    moved.map_err(FolderError::io("read", &path))?;
    let mut notes = Notes::new(BufReader::new(file), path, start);
    if start > 0 {
        // The window begins within a note.
        notes.next_block()?;
    }
    let mut last = None;
    for note in &mut notes {
        last = Some(note?);
    }
    if start > 0 && last.is_none() {
        return Err(FolderError::damaged(
            &notes.path,
            start,
            "there is no note up to the end",
        ));
    }
    Ok((last, bytes))
}

impl<R: BufRead> Notes<R> {
    fn new(source: R, path: PathBuf, start: u64) -> Self {
        Self {
            source,
            path,
            end: start,
        }
    }

    /// The bytes up to and with the next empty line behind a signature; none if there is no more.
    fn next_block(&mut self) -> Result<Option<Vec<u8>>, FolderError> {
        let mut block = Vec::new();
        let mut is_signed = false;
        loop {
            let start = block.len();
            let room = count((MAX_NOTE_BYTES + 1).saturating_sub(start));
            let read = self
                .source
                .by_ref()
                .take(room)
                .read_until(b'\n', &mut block);
            read.map_err(FolderError::io("read", &self.path))?;
            let line = block.get(start..).unwrap_or_default();
            if line == b"\n" && is_signed {
                if block.contains(&0) {
                    return self.end_at_hole();
                }
                self.end = self.end.saturating_add(count(block.len()));
                return Ok(Some(block));
            }
            if !line.ends_with(b"\n") {
                let is_too_long = block.len() > MAX_NOTE_BYTES;
                let damaged = || FolderError::damaged(&self.path, self.end, "no note is so long");
                return if is_too_long {
                    Err(damaged())
                } else {
                    Ok(None)
                };
            }
            is_signed = line.starts_with(SIGNATURE);
        }
    }
}

impl<R: BufRead> Notes<R> {
    /// Ends the notes at one with zeros, whose beginning the disk never got; that can only be the last.
    fn end_at_hole(&mut self) -> Result<Option<Vec<u8>>, FolderError> {
        let behind = self.source.fill_buf();
        let behind = behind.map_err(FolderError::io("read", &self.path))?;
        let damaged = || FolderError::damaged(&self.path, self.end, "the note has zeros in it");
        if behind.is_empty() {
            Ok(None)
        } else {
            Err(damaged())
        }
    }
}

impl<R: BufRead> Iterator for Notes<R> {
    type Item = Result<PlacedNote, FolderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.end;
        let mut block = match self.next_block() {
            Ok(block) => block?,
            Err(error) => return Some(Err(error)),
        };
        // The empty line is not part of the note.
        block.pop();
        let damaged = |_| FolderError::damaged(&self.path, start, "the note is not text");
        let text = String::from_utf8(block).map_err(damaged);
        Some(text.map(|text| PlacedNote {
            text,
            end: self.end,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &str = "origin\n1\nroot\n\n\u{2014} origin c2ln\n\u{2014} witness c2ln\n";

    fn texts(bytes: &[u8]) -> Vec<String> {
        let notes = Notes::new(bytes, PathBuf::new(), 0);
        notes.map(|note| note.unwrap().text).collect()
    }

    #[test]
    fn notes_read_back_up_to_the_last_whole_one() {
        let file = with_empty_line(NOTE).unwrap().repeat(2);
        assert_eq!(texts(file.as_bytes()), [NOTE, NOTE]);
        for end in 0..file.len() {
            let whole = end / (NOTE.len() + 1);
            assert_eq!(texts(file.as_bytes().split_at(end).0).len(), whole);
        }
    }

    #[test]
    fn only_one_note_is_taken() {
        let two = format!("{NOTE}\n{NOTE}");
        let long = format!("{}{NOTE}", "a".repeat(MAX_NOTE_BYTES));
        for wrong in [
            "",
            "\n",
            "text\n",
            "text\n\nno signature\n",
            NOTE.trim_end(),
            &two,
            &long,
        ] {
            assert_eq!(with_empty_line(wrong), None, "{wrong}");
        }
    }
}
