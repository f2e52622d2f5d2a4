//! Says whether a record fits a filter, by looking only at the fields that the filter asks about.

use std::fmt;

use jiff::Timestamp;
use prost::encoding::{WireType, decode_key, decode_varint};
use uuid::Uuid;

use super::proto::Outcome;

/// How far a record's time may be from the one in its id: clocks step, and a decision may wait for its approval's store.
const BEFORE_ID_US: i64 = 10_000_000;
const AFTER_ID_US: i64 = 60_000_000;

/// An entity's name as a filter has it: `Type::"id"`, the id written as Cedar writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityName {
    type_name: String,
    /// With its escapes.
    id: String,
}

impl EntityName {
    /// Reads `Type::"id"`; none for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (type_name, rest) = text.split_once("::\"")?;
        let id = rest.strip_suffix('"')?;
        (!type_name.is_empty()).then(|| Self {
            type_name: type_name.to_owned(),
            id: id.to_owned(),
        })
    }

    /// Whether it names the entity in the bytes of an `Entity`.
    fn names(&self, entity: &[u8]) -> bool {
        let (mut type_name, mut id): (&[u8], &[u8]) = (&[], &[]);
        for field in Walk(entity) {
            match field {
                (1, Field::Bytes(bytes)) => type_name = bytes,
                (2, Field::Bytes(bytes)) => id = bytes,
                _ => {}
            }
        }
        let is_id = |id: &str| id.escape_debug().eq(self.id.chars());
        type_name == self.type_name.as_bytes() && std::str::from_utf8(id).is_ok_and(is_id)
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.type_name, self.id)
    }
}

/// What a record must be. What is none fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// A decision's principal, or an approval's requester: of an approval's records only the opening names it.
    pub principal: Option<EntityName>,
    /// A decision's or an opening's action, by its full or its short name.
    pub action: Option<String>,
    /// A decision's or an opening's resource.
    pub resource: Option<EntityName>,
    /// What a decision answered.
    pub outcome: Option<Outcome>,
    /// The approval that took part in a decision, or that a record is about.
    pub approval_id: Option<String>,
    /// A decision, or a redemption by it.
    pub decision_id: Option<Uuid>,
    /// Not before this, in microseconds since the epoch.
    pub from_us: Option<i64>,
    /// Before this, in microseconds since the epoch.
    pub to_us: Option<i64>,
    /// The log: `control`, or an incarnation. Whoever reads the logs looks at it; a record does not say where it is.
    pub log: Option<String>,
}

impl RecordFilter {
    /// Whether every record of every log fits.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the record with the bytes `leaf` fits, whichever log it is in. What is no record fits only where nothing is asked.
    pub fn fits(&self, leaf: &[u8]) -> bool {
        let is_any = Self {
            log: self.log.clone(),
            ..Self::default()
        } == *self;
        if is_any {
            return true;
        }
        let Some(seen) = Seen::of(leaf) else {
            return false;
        };
        self.from_us.is_none_or(|from| seen.at_us >= from)
            && self.to_us.is_none_or(|to| seen.at_us < to)
            && self
                .outcome
                .is_none_or(|outcome| seen.outcome == u64::try_from(i32::from(outcome)).ok())
            && self
                .decision_id
                .is_none_or(|id| seen.decision_id == Some(id.as_bytes()))
            && self
                .approval_id
                .as_ref()
                .is_none_or(|id| seen.approval_id == Some(id.as_bytes()))
            && self
                .principal
                .as_ref()
                .is_none_or(|name| seen.principal.is_some_and(|entity| name.names(entity)))
            && self
                .resource
                .as_ref()
                .is_none_or(|name| seen.resource.is_some_and(|entity| name.names(entity)))
            && self
                .action
                .as_ref()
                .is_none_or(|action| seen.action.is_some_and(|asked| is_action(asked, action)))
    }

    /// Between which times a record can fit, in microseconds since the epoch: the filter's own, and those that follow from ids,
    /// which begin with the time at which they were made.
    pub fn times(&self) -> (Option<i64>, Option<i64>) {
        let decided = self.decision_id.and_then(made_at_us);
        let opened = self.approval_id.as_deref();
        let opened = opened.and_then(|id| id.parse().ok()).and_then(made_at_us);
        let after = [decided, opened].into_iter().flatten();
        let after = after.map(|at| at.saturating_sub(BEFORE_ID_US));
        let before = decided.map(|at| at.saturating_add(AFTER_ID_US));
        (
            self.from_us.into_iter().chain(after).max(),
            self.to_us.into_iter().chain(before).min(),
        )
    }
}

impl fmt::Display for RecordFilter {
    /// The filter on one line, as it is written to the log when somebody reads; `everything` if it is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |us: i64| {
            Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string())
        };
        let outcome = self.outcome.map(|outcome| {
            let name = outcome.as_str_name();
            name.trim_start_matches("OUTCOME_").to_owned()
        });
        let parts = [
            ("log", self.log.clone()),
            (
                "principal",
                self.principal.as_ref().map(ToString::to_string),
            ),
            ("action", self.action.clone()),
            ("resource", self.resource.as_ref().map(ToString::to_string)),
            ("outcome", outcome),
            ("approval", self.approval_id.clone()),
            ("decision", self.decision_id.map(|id| id.to_string())),
            ("from", self.from_us.map(time)),
            ("to", self.to_us.map(time)),
        ];
        let mut is_first = true;
        for (name, value) in parts {
            let Some(value) = value else { continue };
            let space = if is_first { "" } else { " " };
            write!(f, "{space}{name}={value}")?;
            is_first = false;
        }
        if is_first {
            f.write_str("everything")?;
        }
        Ok(())
    }
}

/// When the record with the bytes `leaf` was written, in microseconds since the epoch; 0 for what is no record.
pub fn at_us(leaf: &[u8]) -> i64 {
    let mut fields = Walk(leaf);
    let at = fields.find_map(|field| match field {
        (1, Field::Number(at)) => Some(at.cast_signed()),
        _ => None,
    });
    at.unwrap_or(0)
}

/// When a UUID of version 7 was made.
fn made_at_us(id: Uuid) -> Option<i64> {
    let made = id.get_timestamp().filter(|_| id.get_version_num() == 7)?;
    let (seconds, nanos) = made.to_unix();
    let micros = i64::from(nanos).checked_div(1_000)?;
    i64::try_from(seconds)
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros)
}

/// Whether `asked` is the action `wanted`, one or both of them by a short name.
fn is_action(asked: &[u8], wanted: &str) -> bool {
    let Ok(asked) = std::str::from_utf8(asked) else {
        return false;
    };
    let (short_asked, short_wanted) = (short(asked), short(wanted));
    match (short_asked, short_wanted) {
        (Some(_), Some(_)) | (None, None) => asked == wanted,
        (Some(short), None) => short == wanted,
        (None, Some(short)) => asked == short,
    }
}

/// The short name in a full one, `Deploy` in `Acme::Action::"Deploy"`; none for what is no full name.
fn short(action: &str) -> Option<&str> {
    let (_, id) = action.split_once("::\"")?;
    id.strip_suffix('"')
}

/// What a filter looks at in a record.
#[derive(Default)]
struct Seen<'r> {
    at_us: i64,
    outcome: Option<u64>,
    decision_id: Option<&'r [u8]>,
    approval_id: Option<&'r [u8]>,
    principal: Option<&'r [u8]>,
    action: Option<&'r [u8]>,
    resource: Option<&'r [u8]>,
}

impl<'r> Seen<'r> {
    /// What is in `leaf`; none if it is no message at all.
    fn of(leaf: &'r [u8]) -> Option<Self> {
        let mut seen = Self::default();
        let mut walk = Walk(leaf);
        for field in &mut walk {
            match field {
                (1, Field::Number(at)) => seen.at_us = at.cast_signed(),
                (2, Field::Bytes(decision)) => seen.look_at_decision(decision),
                (4, Field::Bytes(event)) => seen.look_at_event(event),
                _ => {}
            }
        }
        walk.0.is_empty().then_some(seen)
    }

    fn look_at_decision(&mut self, decision: &'r [u8]) {
        for field in Walk(decision) {
            match field {
                (1, Field::Bytes(id)) => self.decision_id = Some(id),
                (2, Field::Number(outcome)) => self.outcome = Some(outcome),
                (21, Field::Bytes(entity)) => self.principal = Some(entity),
                (22, Field::Bytes(action)) => self.action = Some(action),
                (23, Field::Bytes(entity)) => self.resource = Some(entity),
                (50, Field::Bytes(id)) => self.approval_id = Some(id),
                _ => {}
            }
        }
    }

    fn look_at_event(&mut self, event: &'r [u8]) {
        for field in Walk(event) {
            match field {
                (1, Field::Bytes(id)) => self.approval_id = Some(id),
                (10, Field::Bytes(opened)) => self.look_at_opening(opened),
                (15, Field::Bytes(redeemed)) => {
                    self.decision_id = Walk(redeemed).find_map(|field| match field {
                        (4, Field::Bytes(id)) => Some(id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
    }

    fn look_at_opening(&mut self, opened: &'r [u8]) {
        for field in Walk(opened) {
            match field {
                (2, Field::Bytes(entity)) => self.principal = Some(entity),
                (3, Field::Bytes(action)) => self.action = Some(action),
                (4, Field::Bytes(entity)) => self.resource = Some(entity),
                _ => {}
            }
        }
    }
}

/// A field's value as it is on the wire.
enum Field<'r> {
    Number(u64),
    Bytes(&'r [u8]),
    Other,
}

/// The fields of a message with their tags, up to the first that cannot be read. What is left then is not empty.
struct Walk<'r>(&'r [u8]);

impl<'r> Walk<'r> {
    fn read(rest: &mut &'r [u8]) -> Option<(u32, Field<'r>)> {
        let (tag, wire) = decode_key(rest).ok()?;
        let skipped = match wire {
            WireType::Varint => return Some((tag, Field::Number(decode_varint(rest).ok()?))),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
                let (bytes, behind) = rest.split_at_checked(length)?;
                *rest = behind;
                return Some((tag, Field::Bytes(bytes)));
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        *rest = rest.get(skipped..)?;
        Some((tag, Field::Other))
    }
}

impl<'r> Iterator for Walk<'r> {
    type Item = (u32, Field<'r>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut rest = self.0;
        let field = Self::read(&mut rest)?;
        self.0 = rest;
        Some(field)
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
