//! Values of contexts and attributes.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::EntityRef;

/// A value that Cedar knows. There is no null and no fraction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// An integer.
    Long(i64),
    /// A text.
    String(String),
    /// A set, in the order given; duplicates do not matter to Cedar.
    Set(Vec<Self>),
    /// A record.
    Record(Record),
    /// A reference to an entity.
    Entity(EntityRef),
    /// A call of an extension constructor, such as `ip("10.0.0.1")`.
    Extension {
        /// The constructor: `ip`, `decimal`, `datetime` or `duration`.
        function: SmolStr,
        /// Its argument.
        argument: String,
    },
}

impl Value {
    /// About how many bytes it takes in memory.
    pub fn approximate_bytes(&self) -> usize {
        let held = match self {
            Self::Bool(_) | Self::Long(_) => 0,
            Self::String(text) => text.len(),
            Self::Set(values) => values
                .iter()
                .map(Self::approximate_bytes)
                .fold(0, usize::saturating_add),
            Self::Record(record) => record.approximate_bytes(),
            Self::Entity(uid) => uid.approximate_bytes(),
            Self::Extension { argument, .. } => argument.len(),
        };
        held.saturating_add(size_of::<Self>())
    }

    /// What the value is, in the words of Cedar's schema language.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "Bool",
            Self::Long(_) => "Long",
            Self::String(_) => "String",
            Self::Set(_) => "Set",
            Self::Record(_) => "record",
            Self::Entity(_) => "entity reference",
            Self::Extension { .. } => "extension value",
        }
    }
}

impl Value {
    /// Reads Cedar's JSON escapes: a record `{"__entity": {"type", "id"}}` is a reference, `{"__extn": {"fn", "arg"}}` an extension
    /// value. Any other value stays what it is. Works on one level: the inner values must have been read before.
    ///
    /// # Errors
    /// A sentence, when a record has an escape's name but not its form.
    pub fn unescaped(self) -> Result<Self, String> {
        const ENTITY: &str = "__entity";
        const EXTENSION: &str = "__extn";
        let Self::Record(record) = self else {
            return Ok(self);
        };
        let texts = |inner: &Self, first: &str, second: &str| match inner {
            Self::Record(inner) => match (inner.len(), inner.get(first), inner.get(second)) {
                (2, Some(Self::String(one)), Some(Self::String(two))) => {
                    Some((one.clone(), two.clone()))
                }
                _ => None,
            },
            Self::Bool(_)
            | Self::Long(_)
            | Self::String(_)
            | Self::Set(_)
            | Self::Entity(_)
            | Self::Extension { .. } => None,
        };
        if let Some(inner) = record.get(ENTITY) {
            let (type_name, id) = texts(inner, "type", "id")
                .filter(|_| record.len() == 1)
                .ok_or("`__entity` holds a `type` and an `id`, both texts, and stands alone")?;
            return Ok(Self::Entity(EntityRef { type_name, id }));
        }
        if let Some(inner) = record.get(EXTENSION) {
            let (function, argument) = texts(inner, "fn", "arg")
                .filter(|_| record.len() == 1)
                .ok_or("`__extn` holds a `fn` and an `arg`, both texts, and stands alone")?;
            return Ok(Self::Extension {
                function: function.into(),
                argument,
            });
        }
        Ok(Self::Record(record))
    }
}

/// Named values. Invariant (sorted): by name, each name once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(String, Value)>")]
pub struct Record(Vec<(String, Value)>);

impl Record {
    /// About how many bytes it takes in memory.
    pub fn approximate_bytes(&self) -> usize {
        let size = |(name, value): &(String, Value)| {
            size_of::<String>()
                .saturating_add(name.len())
                .saturating_add(value.approximate_bytes())
        };
        self.0.iter().map(size).fold(0, usize::saturating_add)
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let index = self
            .0
            .binary_search_by(|(key, _)| key.as_str().cmp(name))
            .ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// Sets `name` to `value`, replacing what was there.
    pub fn insert(&mut self, name: String, value: Value) {
        match self.0.binary_search_by(|(key, _)| key.cmp(&name)) {
            Ok(index) => {
                if let Some(entry) = self.0.get_mut(index) {
                    entry.1 = value;
                }
            }
            Err(index) => self.0.insert(index, (name, value)),
        }
    }

    /// The names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The names and values, by name; values may be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Value)> {
        self.0
            .iter_mut()
            .map(|(name, value)| (name.as_str(), value))
    }
}

impl From<Vec<(String, Value)>> for Record {
    fn from(pairs: Vec<(String, Value)>) -> Self {
        pairs.into_iter().collect()
    }
}

impl FromIterator<(String, Value)> for Record {
    /// Collects names and values; of a name given twice the last value stays.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        let mut entries: Vec<(String, Value)> = pairs.into_iter().collect();
        // A map's iterator is sorted already; then this is one pass.
        if !entries.is_sorted_by(|left, right| left.0 < right.0) {
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            entries.reverse();
            entries.dedup_by(|left, right| left.0 == right.0);
            entries.reverse();
        }
        Self(entries)
    }
}

impl IntoIterator for Record {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_values_for_a_name_stays() {
        let record: Record = [("b", 1), ("a", 2), ("b", 3)]
            .map(|(name, value)| (name.to_owned(), Value::Long(value)))
            .into_iter()
            .collect();
        assert_eq!(record.len(), 2);
        assert_eq!(record.get("b"), Some(&Value::Long(3)));
    }
}
