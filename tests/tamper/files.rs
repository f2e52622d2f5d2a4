//! Changes to the files of one log folder, within what is protected.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use crate::lives::random::dice::Dice;

/// A log's folder, and up to which record it cannot lose its end.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) kept: u64,
}

const SEGMENT_HEADER: usize = 16;
const TAIL_HEADER: usize = 8;
const TAIL_FRAME: usize = 17;

impl Place {
    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    /// How many bundles the log has.
    fn bundles(&self) -> u64 {
        u64::try_from(self.read("hashes").len() / 32).unwrap()
    }

    /// The names of the segments with the index each begins with, lowest first.
    fn segments(&self) -> Vec<(String, u64)> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let segments = names.filter_map(|name| {
            let first = name.strip_suffix(".seg")?.parse().unwrap();
            Some((name, first))
        });
        let mut segments: Vec<(String, u64)> = segments.collect();
        segments.sort_by_key(|(_, first)| *first);
        segments
    }

    /// Where the last bundle of a segment ends that has its hash.
    fn segment_end(&self, at: usize) -> usize {
        let segments = self.segments();
        let (name, first) = &segments[at];
        let next = segments
            .get(at + 1)
            .map_or_else(|| self.bundles(), |(_, next)| next / 256);
        let bytes = self.read(name);
        let mut end = SEGMENT_HEADER;
        for _ in first / 256..next {
            let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
            end += 8 + usize::try_from(length).unwrap();
        }
        end
    }

    /// Where the frame ends of the last record in the tail that is kept; none if none is.
    fn tail_end(&self) -> Option<usize> {
        let bytes = self.read("tail");
        let (mut at, mut end) = (TAIL_HEADER, None);
        let mut next = self.bundles() * 256;
        while at + TAIL_FRAME <= bytes.len() {
            let kind = bytes[at];
            let index = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap());
            let length = u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap());
            let frame_end = at + TAIL_FRAME + usize::try_from(length).unwrap();
            if frame_end > bytes.len() || !matches!(kind, 1 | 2) || (kind == 1 && index != next) {
                break;
            }
            if kind == 1 {
                next += 1;
                if index < self.kept {
                    end = Some(frame_end);
                }
            }
            at = frame_end;
        }
        end
    }

    /// The protected bytes of each file.
    fn protected(&self) -> Vec<(String, Range<usize>)> {
        let whole = |name: &str| (name.to_owned(), 0..self.read(name).len());
        let mut files = vec![whole("key"), whole("checkpoints"), whole("hashes")];
        files.push(("tail".to_owned(), 0..self.tail_end().unwrap_or(TAIL_HEADER)));
        for (at, (name, _)) in self.segments().iter().enumerate() {
            files.push((name.clone(), 0..self.segment_end(at)));
        }
        files.retain(|(_, range)| !range.is_empty());
        files
    }
}

/// Flips a bit of a protected byte.
#[expect(
    clippy::unnecessary_wraps,
    reason = "another change may not be possible"
)]
pub(crate) fn flip(dice: &mut Dice, place: &Place) -> Option<String> {
    let files = place.protected();
    let (name, range) = dice.pick(&files).clone();
    let at = range.start + dice.below(range.len());
    let mut bytes = place.read(&name);
    let bit = dice.below(8);
    bytes[at] ^= 1 << bit;
    fs::write(place.folder.join(&name), bytes).unwrap();
    Some(format!(
        "bit {bit} of byte {at} of {}/{name}",
        place.folder.display()
    ))
}

/// Cuts a file off within what is protected. Checkpoints may be cut off: signatures are taken away, and cover nothing any more. So may
/// later keys of the control log: the log itself holds them.
pub(crate) fn cut(dice: &mut Dice, place: &Place) -> Option<String> {
    let mut files = place.protected();
    files.retain(|(name, _)| match name.as_str() {
        "checkpoints" => false,
        // Without its last bundles a log is shorter.
        "hashes" => (place.bundles() - 1) * 256 < place.kept,
        _ => true,
    });
    if files.is_empty() {
        return None;
    }
    let (name, range) = dice.pick(&files).clone();
    let at = match name.as_str() {
        // Less than a hash is torn; a whole one less must be missed.
        "hashes" => {
            let bundles = usize::try_from(place.bundles()).unwrap();
            32 * dice.below(bundles)
        }
        _ => dice.below(range.len()),
    };
    let mut bytes = place.read(&name);
    bytes.truncate(at);
    if name == "key" && bytes.ends_with(b"\n") {
        return None;
    }
    fs::write(place.folder.join(&name), bytes).unwrap();
    Some(format!("{}/{name} to {at} bytes", place.folder.display()))
}

/// Removes a segment.
pub(crate) fn drop_segment(dice: &mut Dice, place: &Place) -> Option<String> {
    let segments = place.segments();
    if segments.is_empty() {
        return None;
    }
    let at = dice.below(segments.len());
    let (name, _) = dice.pick(&segments[at..=at]).clone();
    fs::remove_file(place.folder.join(&name)).unwrap();
    Some(format!("{}/{name}", place.folder.display()))
}
