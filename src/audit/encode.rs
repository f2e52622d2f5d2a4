//! Writes protobuf messages from borrowed values, field by field, without building them first.
//!
//! A decision is recorded on the thread that answers it: building a message there would copy every text once more.

use prost::encoding::{WireType, encode_key, encode_varint};

/// Writes the fields of one message at the end of a buffer. Fields with their default value are left out.
#[derive(Debug)]
pub(super) struct Fields<'b>(pub(super) &'b mut Vec<u8>);

impl Fields<'_> {
    /// A text.
    pub(super) fn text(&mut self, tag: u32, text: &str) {
        self.bytes(tag, text.as_bytes());
    }

    /// Bytes.
    pub(super) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.member(tag, bytes);
        }
    }

    /// A member of a repeated or `oneof` field: written even if it is empty.
    pub(super) fn member(&mut self, tag: u32, bytes: &[u8]) {
        encode_key(tag, WireType::LengthDelimited, self.0);
        encode_varint(length(bytes.len()), self.0);
        self.0.extend_from_slice(bytes);
    }

    /// A number.
    pub(super) fn number(&mut self, tag: u32, number: u64) {
        if number != 0 {
            self.varint(tag, number);
        }
    }

    /// A number in a `oneof`: written even if it is 0.
    pub(super) fn varint(&mut self, tag: u32, number: u64) {
        encode_key(tag, WireType::Varint, self.0);
        encode_varint(number, self.0);
    }

    /// A number of type `int64`.
    pub(super) fn signed(&mut self, tag: u32, number: i64) {
        self.number(tag, number.cast_unsigned());
    }

    /// A flag.
    pub(super) fn flag(&mut self, tag: u32, is_set: bool) {
        self.number(tag, u64::from(is_set));
    }

    /// A message.
    pub(super) fn message(&mut self, tag: u32, write: impl FnOnce(&mut Fields<'_>)) {
        encode_key(tag, WireType::LengthDelimited, self.0);
        let at = self.0.len();
        // Room for the length of a short message; a longer one is moved, which costs less than measuring it first.
        self.0.push(0);
        write(&mut Fields(self.0));
        let written = self.0.len().saturating_sub(at).saturating_sub(1);
        if let (Ok(short), Some(room)) = (u8::try_from(written), self.0.get_mut(at))
            && short < 0x80
        {
            *room = short;
            return;
        }
        let mut prefix = [0_u8; 10];
        let mut rest = prefix.as_mut_slice();
        let room = rest.len();
        encode_varint(length(written), &mut rest);
        let used = room.saturating_sub(rest.len());
        let prefix = prefix.get(..used).unwrap_or_default();
        self.0.splice(at..=at, prefix.iter().copied());
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
