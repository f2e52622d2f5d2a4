//! Digests: what a reviewer saw is what may run.
//!
//! The canonical form is a stream of parts, each one tag byte, the length of its content in eight bytes and the content, so that no
//! two different values have the same bytes. Records and sets are sorted, lists are not; integers are eight bytes; an absent name
//! is not there at all, which no value is.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::{EntityDescription, EntityRef, Record, Request, Value};

/// A SHA-256 digest over a canonical form. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest of 64 hexadecimal digits")]
pub struct NotADigest(String);

impl Digest {
    /// The digest of `content`, in the domain `domain`.
    pub fn of(domain: &str, content: &[u8]) -> Self {
        let mut canonical = Canonical::new(domain);
        canonical.bytes(content);
        canonical.digest()
    }

    /// The digest of `parts`, in the domain `domain`; an absent part is not an empty one.
    pub fn of_parts(domain: &str, parts: &[Option<&str>]) -> Self {
        let mut canonical = Canonical::new(domain);
        for part in parts {
            canonical.list(*part, Canonical::text);
        }
        canonical.digest()
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotADigest(text.to_owned());
        let digits = |pair| {
            let pair: &str = std::str::from_utf8(pair).ok()?;
            pair.bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                .then_some(pair)
        };
        let mut bytes = [0_u8; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let pair = digits(pair).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// Writes a canonical form.
#[derive(Debug)]
pub(super) struct Canonical(Vec<u8>);

impl Canonical {
    /// Begins a form that no other domain's can be mistaken for.
    pub(super) fn new(domain: &str) -> Self {
        let mut canonical = Self(Vec::with_capacity(512));
        canonical.text(domain);
        canonical
    }

    pub(super) fn digest(self) -> Digest {
        Digest(Sha256::digest(&self.0).into())
    }

    fn part(&mut self, tag: u8, content: &[u8]) {
        self.0.push(tag);
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(content);
    }

    pub(super) fn bytes(&mut self, content: &[u8]) {
        self.part(b'B', content);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.part(b't', text.as_bytes());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.part(b'n', &number.to_be_bytes());
    }

    /// A list: its parts in their order.
    pub(super) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let mut inner = Self(Vec::new());
        items.into_iter().for_each(|item| write(&mut inner, item));
        self.part(b'l', &inner.0);
    }

    /// A set: its parts sorted by their bytes, each once.
    fn set<T>(&mut self, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        let encode = |item| {
            let mut inner = Self(Vec::new());
            write(&mut inner, item);
            inner.0
        };
        let mut parts: Vec<Vec<u8>> = items.into_iter().map(encode).collect();
        parts.sort_unstable();
        parts.dedup();
        self.part(b's', &parts.concat());
    }

    pub(super) fn entity(&mut self, uid: &EntityRef) {
        let mut inner = Self(Vec::new());
        inner.text(&uid.type_name);
        inner.text(&uid.id);
        self.part(b'e', &inner.0);
    }

    fn record(&mut self, record: &Record, texts: ExtensionTexts) {
        let mut inner = Self(Vec::new());
        for (name, value) in record.iter() {
            inner.text(name);
            inner.value(value, texts);
        }
        self.part(b'r', &inner.0);
    }

    fn value(&mut self, value: &Value, texts: ExtensionTexts) {
        match value {
            Value::Bool(flag) => self.part(b'b', &[u8::from(*flag)]),
            Value::Long(number) => self.part(b'i', &number.to_be_bytes()),
            Value::String(text) => self.text(text),
            Value::Set(values) => self.set(values, |inner, value| inner.value(value, texts)),
            Value::Record(record) => self.record(record, texts),
            Value::Entity(uid) => self.entity(uid),
            Value::Extension { function, argument } => {
                let canonical = texts(function, argument);
                let mut inner = Self(Vec::new());
                inner.text(function);
                inner.text(canonical.as_deref().unwrap_or(argument));
                self.part(b'x', &inner.0);
            }
        }
    }

    fn description(&mut self, described: &EntityDescription, texts: ExtensionTexts) {
        self.entity(&described.uid);
        self.record(&described.attributes, texts);
        self.set(&described.parents, Self::entity);
    }
}

/// How an extension value's argument is written so that equal values have equal texts; none if it cannot be read.
pub type ExtensionTexts = fn(function: &str, argument: &str) -> Option<String>;

/// The digest of `request`, whose action is `action` by its full name: over who, for whom, what, on what, in which circumstances, and
/// what the caller described.
///
/// Not over the justification, labels and ids: they say how the request is presented, not what is done.
pub fn request_digest(request: &Request, action: &str, texts: ExtensionTexts) -> Digest {
    let mut canonical = Canonical::new("countersign request v1");
    canonical.entity(&request.principal);
    canonical.text(action);
    canonical.entity(&request.resource);
    canonical.record(&request.context, texts);
    canonical.set(&request.entities, |inner, described| {
        inner.list([described], |inner, described| {
            inner.description(described, texts);
        });
    });
    canonical.list(&request.on_behalf_of, Canonical::entity);
    canonical.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(context: &[(&str, Value)]) -> Request {
        let context = context
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        Request::new(
            EntityRef::new("Agent", "a"),
            "Deploy",
            EntityRef::new("Service", "s"),
            context,
        )
    }

    fn digest(context: &[(&str, Value)]) -> Digest {
        request_digest(&request(context), "Action::\"Deploy\"", |_, _| None)
    }

    #[test]
    fn the_order_of_names_and_set_members_does_not_matter() {
        let one = digest(&[
            ("a", Value::Long(1)),
            (
                "b",
                Value::Set(vec![Value::Long(1), Value::Long(2), Value::Long(1)]),
            ),
        ]);
        let two = digest(&[
            ("b", Value::Set(vec![Value::Long(2), Value::Long(1)])),
            ("a", Value::Long(1)),
        ]);
        assert_eq!(one, two);
    }

    #[test]
    fn absent_empty_and_other_types_are_told_apart() {
        let empty = Value::Record(Record::default());
        let values = [
            Value::Long(1),
            Value::Bool(true),
            Value::String("1".to_owned()),
            Value::String(String::new()),
            Value::Set(vec![]),
            Value::Set(vec![Value::Set(vec![])]),
            empty,
            Value::Long((1 << 53) + 1),
            Value::Long(1 << 53),
            Value::Entity(EntityRef::new("A", "b")),
            Value::Entity(EntityRef::new("Ab", "")),
            Value::String("e\u{301}".to_owned()),
            Value::String("\u{e9}".to_owned()),
        ];
        let mut digests: Vec<Digest> = values
            .into_iter()
            .map(|value| digest(&[("a", value)]))
            .collect();
        digests.push(digest(&[]));
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    #[test]
    fn the_words_beside_the_request_do_not_matter_and_the_chain_does() {
        let plain = request(&[]);
        let said = Request {
            justification: Some("please".to_owned()),
            request_id: Some("1".to_owned()),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..plain.clone()
        };
        let chained = Request {
            on_behalf_of: vec![EntityRef::new("User", "u")],
            ..plain.clone()
        };
        let of = |request: &Request| request_digest(request, "Action::\"Deploy\"", |_, _| None);
        assert_eq!(of(&plain), of(&said));
        assert_ne!(of(&plain), of(&chained));
    }

    #[test]
    fn equal_extension_values_have_one_digest() {
        let texts: ExtensionTexts = |_, argument| Some(argument.trim_end_matches('0').to_owned());
        let decimal = |argument: &str| Value::Extension {
            function: "decimal".into(),
            argument: argument.to_owned(),
        };
        let of = |argument: &str| request_digest(&request(&[("a", decimal(argument))]), "a", texts);
        assert_eq!(of("1.10"), of("1.1"));
        assert_ne!(of("1.10"), of("1.2"));
    }

    #[test]
    fn a_digest_reads_back_from_its_text() {
        let one = digest(&[]);
        assert_eq!(one.to_string().parse(), Ok(one));
        for wrong in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"+a".repeat(32)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
