//! Looks at the fields of a protobuf message where they are: no copy, no allocation.
//!
//! Decision logs are long, and of a decision's many texts the verifier needs none.

use crate::audit::proto;

/// The last kind of record that this version knows: the tag of its field.
const LAST_KIND: u64 = 14;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// A number, a flag or a value of an enumeration.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// A number of fixed length.
    Fixed,
}

/// These bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAMessage;

/// The fields of a message, in the order they are written.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u64, Field<'a>), NotAMessage> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| NotAMessage)?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return Err(NotAMessage),
        };
        Ok((key >> 3, field))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], NotAMessage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NotAMessage)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, NotAMessage> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(NotAMessage)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err(NotAMessage)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), NotAMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}

/// A record of a decision log, as far as the verifier looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordLook<'a> {
    /// When it was written, in microseconds since the epoch.
    pub(super) at_us: i64,
    pub(super) what: What<'a>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    Decision(DecisionLook<'a>),
    Gap(GapLook),
    /// A call that was turned away: nothing was decided.
    Refused,
    /// A record that belongs into the control log.
    Control,
    /// A record of a kind that only newer versions know.
    Newer,
}

/// What matters of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DecisionLook<'a> {
    pub(super) id: &'a [u8],
    pub(super) outcome: u64,
    pub(super) has_rules: bool,
    pub(super) approval: &'a [u8],
    pub(super) is_granted: bool,
    pub(super) digest: &'a [u8],
}

impl DecisionLook<'_> {
    pub(super) fn is_allow(&self) -> bool {
        self.outcome == 1
    }
}

/// What matters of a gap: how many decisions are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GapLook {
    pub(super) lost: u64,
}

impl<'a> RecordLook<'a> {
    /// Looks at the record in `leaf`, which is about exactly one thing.
    pub(super) fn read(leaf: &'a [u8]) -> Result<Self, NotAMessage> {
        let (mut at_us, mut found) = (0, None);
        for field in Fields(leaf) {
            match field? {
                (1, Field::Number(number)) => at_us = number.cast_signed(),
                (tag @ 2.., Field::Bytes(bytes)) if found.is_none() => {
                    found = Some((tag, bytes));
                }
                _ => return Err(NotAMessage),
            }
        }
        let what = match found.ok_or(NotAMessage)? {
            (2, bytes) => What::Decision(decision(bytes)?),
            (3, bytes) => What::Gap(gap(bytes)?),
            (14, _) => What::Refused,
            (..=LAST_KIND, _) => What::Control,
            _ => What::Newer,
        };
        Ok(Self { at_us, what })
    }
}

fn decision(bytes: &[u8]) -> Result<DecisionLook<'_>, NotAMessage> {
    let mut look = DecisionLook::default();
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(id)) => look.id = id,
            (2, Field::Number(outcome)) => look.outcome = outcome,
            (6, Field::Bytes(_)) => look.has_rules = true,
            (50, Field::Bytes(approval)) => look.approval = approval,
            (51, Field::Number(flag)) => look.is_granted = flag != 0,
            (52, Field::Bytes(digest)) => look.digest = digest,
            // The same field in another form is another message than the one that was meant.
            (1 | 2 | 6 | 50 | 51 | 52, _) => return Err(NotAMessage),
            _ => {}
        }
    }
    let is_known = proto::Outcome::try_from(i32::try_from(look.outcome).unwrap_or(-1)).is_ok();
    (is_known && look.outcome != 0 && look.id.len() == 16)
        .then_some(look)
        .ok_or(NotAMessage)
}

fn gap(bytes: &[u8]) -> Result<GapLook, NotAMessage> {
    let (mut allowed, mut denied, mut unanswered) = (0_u64, 0_u64, 0_u64);
    for field in Fields(bytes) {
        match field? {
            (3, Field::Number(number)) => allowed = number,
            (4, Field::Number(number)) => denied = number,
            (5, Field::Number(number)) => unanswered = number,
            (3..=5, _) => return Err(NotAMessage),
            _ => {}
        }
    }
    let lost = allowed.saturating_add(denied).saturating_add(unanswered);
    Ok(GapLook { lost })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn record(what: proto::record::What) -> Vec<u8> {
        crate::audit::control_record::encode_control(-5, what)
    }

    #[test]
    fn a_decision_is_seen_as_it_was_written() {
        let leaf = record(proto::record::What::Decision(proto::Decision {
            decision_id: vec![7; 16],
            outcome: 1,
            rules: vec!["r".to_owned()],
            caller: "c".to_owned(),
            approval_id: "a".to_owned(),
            is_granted: true,
            request_digest: vec![9; 32],
            ..proto::Decision::default()
        }));
        let look = RecordLook::read(&leaf).unwrap();
        assert_eq!(look.at_us, -5);
        let What::Decision(decision) = look.what else {
            panic!("{look:?}");
        };
        assert!(decision.is_allow() && decision.has_rules && decision.is_granted);
        assert_eq!(
            (decision.id, decision.approval, decision.digest),
            (&[7; 16][..], &b"a"[..], &[9; 32][..])
        );
    }

    #[test]
    fn a_gap_counts_what_is_in_it() {
        let leaf = record(proto::record::What::Gap(proto::Gap {
            allowed: 1,
            denied: 20,
            approval_required: 300,
            ..proto::Gap::default()
        }));
        let look = RecordLook::read(&leaf).unwrap();
        assert_eq!(look.what, What::Gap(GapLook { lost: 321 }));
    }

    #[test]
    fn a_kind_of_later_is_no_damage() {
        let look = RecordLook::read(&[8, 1, (15 << 3) | 2, 1, 0]).unwrap();
        assert_eq!(look.what, What::Newer);
        assert!(RecordLook::read(&[8, 1, 15 << 3, 1]).is_err());
    }

    #[test]
    fn a_record_is_about_one_thing() {
        let gap = record(proto::record::What::Gap(proto::Gap::default()));
        assert!(RecordLook::read(&[&gap[..], &gap].concat()).is_err());
        assert!(RecordLook::read(&[]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_looked_at_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let look = RecordLook::read(&bytes);
            if let Ok(RecordLook { what: What::Control, .. }) = look {
                // What the walker takes for a record of the control log is left to the full decoder.
                proto::Record::decode(bytes.as_slice()).ok();
            }
        }
    }
}
