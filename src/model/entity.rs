//! Names and descriptions of entities.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Record;

/// Names an entity: a Cedar type and any string as identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityRef {
    /// The Cedar entity type, such as `Acme::User`.
    pub type_name: String,
    /// The identifier; any string, the empty one included.
    pub id: String,
}

impl EntityRef {
    /// Names the entity `id` of type `type_name`.
    pub fn new(type_name: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            type_name: type_name.into(),
            id: id.into(),
        }
    }
}

impl EntityRef {
    /// About how many bytes it takes in memory.
    pub fn approximate_bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.type_name.len())
            .saturating_add(self.id.len())
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.type_name, self.id.escape_debug())
    }
}

/// Describes an entity that the store does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityDescription {
    /// Which entity.
    pub uid: EntityRef,
    /// Its attributes.
    pub attributes: Record,
    /// Its direct parents.
    pub parents: Vec<EntityRef>,
}

impl EntityDescription {
    /// About how many bytes it takes in memory.
    pub fn approximate_bytes(&self) -> usize {
        let parents = self.parents.iter().map(EntityRef::approximate_bytes);
        parents
            .chain([
                self.uid.approximate_bytes(),
                self.attributes.approximate_bytes(),
            ])
            .fold(0, usize::saturating_add)
    }
}
