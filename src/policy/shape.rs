//! The types a schema declares, compiled for checking requests.
//!
//! Cedar checks a request in 2.4 µs and only where it is evaluated, which a cached answer is not. Every request is walked against
//! its action's shape instead, so that a malformed attribute is refused whether or not the answer is cached; Cedar's own check
//! stays on the uncached path.
//! Never: acceptance of a value that Cedar's check would refuse (property test in `tests/`).

use core::net::Ipv4Addr;
use std::collections::BTreeSet;
use std::fmt;

use smol_str::SmolStr;

use crate::model::{EntityRef, Record, Value};

use super::cedar::{
    Attributes, EntityKind, Extensions, Name, Type, ValidatorSchema, Value as CedarValue,
};
use super::schema::EntityTypes;

/// An extension type and its constructor.
#[derive(Clone, Debug)]
pub(super) struct ExtensionShape {
    type_name: String,
    function: SmolStr,
    constructor: Name,
}

/// The type of a value.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Bool,
    Long,
    String,
    /// A reference to an entity of this type.
    Entity(String),
    /// A reference to any entity.
    AnyEntity,
    Set(Box<Self>),
    Record(RecordShape),
    Extension(ExtensionShape),
    /// No value at all: the element of a set that can only be empty.
    Nothing,
}

/// The attributes of a record or an entity. Invariant (sorted): by name.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordShape {
    attributes: Vec<AttributeShape>,
}

#[derive(Clone, Debug)]
pub(super) struct AttributeShape {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) required: bool,
}

/// A value that does not have its shape.
#[derive(Debug)]
pub(super) struct Misfit {
    /// Where in the record, such as `hosts[2].name`.
    pub(super) path: String,
    /// What is wrong.
    pub(super) message: String,
}

impl Misfit {
    fn new(message: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            message: message.into(),
        }
    }

    fn inside(mut self, step: &dyn fmt::Display) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{step}{separator}{}", self.path);
        self
    }
}

impl RecordShape {
    /// Compiles the attributes a schema declares.
    pub(super) fn compile(attributes: &Attributes) -> Self {
        let mut compiled: Vec<AttributeShape> = attributes
            .iter()
            .map(|(name, attribute)| AttributeShape {
                name: name.to_string(),
                shape: Shape::compile(&attribute.attr_type),
                required: attribute.is_required(),
            })
            .collect();
        compiled.sort_by(|left, right| left.name.cmp(&right.name));
        Self {
            attributes: compiled,
        }
    }

    /// The attribute called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&AttributeShape> {
        let index = self
            .attributes
            .binary_search_by(|attribute| attribute.name.as_str().cmp(name))
            .ok()?;
        self.attributes.get(index)
    }

    /// Checks `record`, and turns texts and records into the extension values and references the schema says they are.
    ///
    /// `supplied` is an attribute that the server adds itself, so it may be absent.
    pub(super) fn fit(
        &self,
        record: &mut Record,
        types: &EntityTypes,
        supplied: Option<&str>,
    ) -> Result<(), Misfit> {
        let mut declared = self.attributes.iter().peekable();
        for (name, value) in record.iter_mut() {
            while let Some(skipped) = declared.next_if(|attribute| attribute.name.as_str() < name) {
                skipped.may_be_absent(supplied)?;
            }
            let Some(attribute) = declared.next_if(|attribute| attribute.name == name) else {
                return Err(self.unknown(name).inside(&name));
            };
            attribute
                .shape
                .fit(value, types)
                .map_err(|misfit| misfit.inside(&name))?;
        }
        declared.try_for_each(|attribute| attribute.may_be_absent(supplied))
    }

    fn unknown(&self, name: &str) -> Misfit {
        let nearest = self
            .attributes
            .iter()
            .map(|attribute| (strsim::osa_distance(&attribute.name, name), &attribute.name))
            .filter(|(distance, _)| *distance <= 3)
            .min();
        match nearest {
            Some((_, nearest)) => Misfit::new(format!(
                "the schema has no such attribute; did you mean `{nearest}`?"
            )),
            None if self.attributes.is_empty() => {
                Misfit::new("the schema declares no attributes here")
            }
            None => Misfit::new(format!(
                "the schema has no such attribute, only {}",
                self.names()
            )),
        }
    }

    fn names(&self) -> String {
        let names: Vec<String> = self
            .attributes
            .iter()
            .map(|attribute| format!("`{}`", attribute.name))
            .collect();
        names.join(", ")
    }
}

impl AttributeShape {
    fn may_be_absent(&self, supplied: Option<&str>) -> Result<(), Misfit> {
        if self.required && supplied != Some(self.name.as_str()) {
            return Err(Misfit::new(format!("is required, a {}", self.shape)).inside(&self.name));
        }
        Ok(())
    }
}

impl Shape {
    fn compile(declared: &Type) -> Self {
        match declared {
            Type::Bool(_) => Self::Bool,
            Type::Long => Self::Long,
            Type::String => Self::String,
            Type::Entity(EntityKind::AnyEntity) => Self::AnyEntity,
            Type::Entity(EntityKind::Entity(lub)) => lub
                .get_single_entity()
                .map_or(Self::AnyEntity, |entity_type| {
                    Self::Entity(entity_type.to_string())
                }),
            Type::Set { element_type } => Self::Set(Box::new(
                element_type.as_deref().map_or(Self::Nothing, Self::compile),
            )),
            Type::Record { attrs, .. } => Self::Record(RecordShape::compile(attrs)),
            Type::ExtensionType { name } => Self::Extension(ExtensionShape::of(name)),
            Type::Never => Self::Nothing,
        }
    }

    /// Whether it is the extension type called `name`.
    pub(super) fn is_extension(&self, name: &str) -> bool {
        matches!(self, Self::Extension(extension) if extension.type_name == name)
    }

    fn fit(&self, value: &mut Value, types: &EntityTypes) -> Result<(), Misfit> {
        match (self, &mut *value) {
            (Self::Bool, Value::Bool(_))
            | (Self::Long, Value::Long(_))
            | (Self::String, Value::String(_)) => Ok(()),
            (Self::Set(element), Value::Set(values)) => {
                values
                    .iter_mut()
                    .enumerate()
                    .try_for_each(|(index, value)| {
                        element
                            .fit(value, types)
                            .map_err(|misfit| misfit.inside(&format_args!("[{index}]")))
                    })
            }
            (Self::Record(shape), Value::Record(record)) => shape.fit(record, types, None),
            (Self::Entity(_) | Self::AnyEntity, Value::Entity(uid)) => self.fit_entity(uid, types),
            (Self::Entity(_) | Self::AnyEntity, Value::Record(record)) => {
                let uid = as_reference(record).ok_or_else(|| self.mismatch("record"))?;
                self.fit_entity(&uid, types)?;
                *value = Value::Entity(uid);
                Ok(())
            }
            (Self::Extension(extension), Value::Extension { function, argument }) => {
                extension.fit(function, argument)
            }
            (Self::Extension(extension), Value::String(text)) => {
                extension.fit(&extension.function, text)?;
                *value = Value::Extension {
                    function: extension.function.clone(),
                    argument: std::mem::take(text),
                };
                Ok(())
            }
            (
                Self::Bool
                | Self::Long
                | Self::String
                | Self::Set(_)
                | Self::Record(_)
                | Self::Entity(_)
                | Self::AnyEntity
                | Self::Extension(_)
                | Self::Nothing,
                found,
            ) => Err(self.mismatch(found.kind())),
        }
    }

    fn fit_entity(&self, uid: &EntityRef, types: &EntityTypes) -> Result<(), Misfit> {
        if let Self::Entity(expected) = self
            && *expected != uid.type_name
        {
            return Err(Misfit::new(format!(
                "expected a `{expected}`, got a `{}`",
                uid.type_name
            )));
        }
        types.check_reference(uid).map_err(Misfit::new)
    }

    fn mismatch(&self, found: &str) -> Misfit {
        Misfit::new(format!("expected a {self}, got a {found}"))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("Bool"),
            Self::Long => f.write_str("Long"),
            Self::String => f.write_str("String"),
            Self::Entity(name) => write!(f, "reference {{\"type\": \"{name}\", \"id\": ..}}"),
            Self::AnyEntity => f.write_str("reference {\"type\": .., \"id\": ..}"),
            Self::Set(element) => write!(f, "list of {element}"),
            Self::Record(_) => f.write_str("record"),
            Self::Extension(extension) => f.write_str(&extension.type_name),
            Self::Nothing => f.write_str("value that cannot exist"),
        }
    }
}

impl ExtensionShape {
    fn of(type_name: &Name) -> Self {
        // Cedar names the address type after its full word and the constructor after the short one.
        let constructor = match type_name.to_string().as_str() {
            "ipaddr" => "ip".parse().unwrap_or_else(|_| type_name.clone()),
            _ => type_name.clone(),
        };
        Self {
            type_name: type_name.to_string(),
            function: SmolStr::new(constructor.to_string()),
            constructor,
        }
    }

    fn fit(&self, function: &str, argument: &str) -> Result<(), Misfit> {
        if self.function != function {
            return Err(Misfit::new(format!(
                "expected a {}, got the result of `{function}`",
                self.type_name
            )));
        }
        // A plain IPv4 address is what contexts hold most, and Cedar reads it with the same parser, 20 times as slowly.
        if self.function == "ip" && argument.parse::<Ipv4Addr>().is_ok() {
            return Ok(());
        }
        construct(&self.constructor, argument)
            .map(drop)
            .map_err(Misfit::new)
    }
}

/// Calls an extension constructor.
///
/// # Errors
/// Cedar's words on why the argument is not acceptable.
pub(super) fn construct(constructor: &Name, argument: &str) -> Result<CedarValue, String> {
    let function = Extensions::all_available()
        .func(constructor)
        .map_err(|error| error.to_string())?;
    let result = function
        .call(&[CedarValue::from(argument)])
        .map_err(|error| super::diagnostics::full_message(&error))?;
    CedarValue::try_from(result).map_err(|error| error.to_string())
}

/// Reads `{"type": .., "id": ..}`, Cedar's short form of a reference where the schema expects one.
fn as_reference(record: &Record) -> Option<EntityRef> {
    match (record.len(), record.get("type"), record.get("id")) {
        (2, Some(Value::String(type_name)), Some(Value::String(id))) => {
            Some(EntityRef::new(type_name, id))
        }
        _ => None,
    }
}

/// The shapes of one action's context and of every entity type.
#[derive(Clone, Debug)]
pub(super) struct ContextShape(pub(super) RecordShape);

impl ContextShape {
    /// The context that `action` declares.
    pub(super) fn compile(declared: Option<&Type>) -> Self {
        match declared.map(Shape::compile) {
            Some(Shape::Record(shape)) => Self(shape),
            Some(
                Shape::Bool
                | Shape::Long
                | Shape::String
                | Shape::Entity(_)
                | Shape::AnyEntity
                | Shape::Set(_)
                | Shape::Extension(_)
                | Shape::Nothing,
            )
            | None => Self(RecordShape::default()),
        }
    }
}

/// The ancestor types that the schema allows for each entity type.
pub(super) fn allowed_ancestors(
    schema: &ValidatorSchema,
    type_name: &super::cedar::EntityType,
) -> BTreeSet<String> {
    schema
        .entity_types()
        .filter(|candidate| candidate.has_descendant_entity_type(type_name))
        .map(|candidate| candidate.name().to_string())
        .collect()
}
