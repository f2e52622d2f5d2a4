//! The entity store: what the policy directory says of teams, agents and resources.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::model::{PolicyProblem, Severity};

use super::cedar::{
    CoreSchema, Entities, Entity, EntityJsonParser, EntityUID, Extensions, NoEntitiesSchema,
    TCComputation,
};
use super::diagnostics::{self, full_message};
use super::schema::Schema;

/// Stored entities, each with all its ancestors. Never changes within a snapshot.
#[derive(Debug, Default)]
pub(super) struct EntityStore {
    entities: HashMap<EntityUID, Arc<Entity>, foldhash::fast::FixedState>,
}

impl EntityStore {
    /// The entity called `uid`.
    pub(super) fn get(&self, uid: &EntityUID) -> Option<&Arc<Entity>> {
        self.entities.get(uid)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.entities.values()
    }
}

/// Reads every entity file; each entity is checked against the schema if there is one.
pub(super) fn read(
    files: &[(&str, &str)],
    schema: Option<&Schema>,
    problems: &mut Vec<PolicyProblem>,
) -> EntityStore {
    let mut entities: Vec<Entity> = Vec::new();
    // Lines are counted only for those that have a problem.
    let mut places: HashMap<EntityUID, Place<'_>> = HashMap::new();
    let reader = EntityReader::new(schema);
    for (path, text) in files {
        for (raw, offset) in split(path, text, problems) {
            let place =
                |message: String| PolicyProblem::error(*path, message).at_offset(text, offset);
            let entity = match reader.read(raw) {
                Ok(entity) => entity,
                Err(message) => {
                    diagnostics::add(problems, Severity::Error, || place(message));
                    continue;
                }
            };
            if let Some((path, text, offset)) =
                places.insert(entity.uid().clone(), (path, text, offset))
            {
                diagnostics::add(problems, Severity::Error, || {
                    let first = PolicyProblem::error(path, "").at_offset(text, offset);
                    place(format!(
                        "the entity `{}` is described twice, first at {path}:{}",
                        entity.uid(),
                        first.line
                    ))
                });
                continue;
            }
            entities.push(entity);
        }
    }
    close(entities, &places, problems)
}

/// Where an entity is described: path and text of the file, and the offset in it.
type Place<'t> = (&'t str, &'t str, usize);

/// Adds to each entity the ancestors of its parents.
fn close(
    entities: Vec<Entity>,
    places: &HashMap<EntityUID, Place<'_>>,
    problems: &mut Vec<PolicyProblem>,
) -> EntityStore {
    let closed = Entities::from_entities(
        entities,
        None::<&NoEntitiesSchema>,
        TCComputation::ComputeNow,
        Extensions::all_available(),
    );
    match closed {
        Ok(closed) => EntityStore {
            entities: closed
                .iter()
                .map(|entity| (entity.uid().clone(), Arc::new(entity.clone())))
                .collect(),
        },
        Err(error) => {
            let message = full_message(&error);
            // Cedar names an entity of the circle at the end of its sentence, and tells it in no other way.
            let named = places
                .iter()
                .find(|(uid, _)| message.ends_with(&format!("`{uid}`")));
            let problem = match named {
                Some((_, (path, text, offset))) => {
                    PolicyProblem::error(*path, message).at_offset(text, *offset)
                }
                None => PolicyProblem::error("entities", message),
            };
            problems.push(problem.with_help("an entity must not be its own ancestor"));
            EntityStore::default()
        }
    }
}

/// The entities of a file, each as it is written, with its place.
fn split<'t>(
    path: &str,
    text: &'t str,
    problems: &mut Vec<PolicyProblem>,
) -> Vec<(&'t str, usize)> {
    match serde_json::from_str::<Vec<&'t RawValue>>(text) {
        Ok(values) => values
            .into_iter()
            .map(|raw| {
                let offset = raw
                    .get()
                    .as_ptr()
                    .addr()
                    .saturating_sub(text.as_ptr().addr());
                (raw.get(), offset)
            })
            .collect(),
        Err(error) => {
            let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
            let column = u32::try_from(error.column()).unwrap_or(u32::MAX);
            problems.push(
                PolicyProblem::error(path, error.to_string())
                    .at_line(text, line, column)
                    .with_help(
                        "an entity file is a JSON array of entities in Cedar's entity format",
                    ),
            );
            Vec::new()
        }
    }
}

/// Reads one entity in Cedar's JSON format.
struct EntityReader<'s> {
    schema: Option<CoreSchema<'s>>,
}

impl<'s> EntityReader<'s> {
    fn new(schema: Option<&'s Schema>) -> Self {
        Self {
            schema: schema.map(|schema| CoreSchema::new(&schema.validator)),
        }
    }

    fn read(&self, raw: &str) -> Result<Entity, String> {
        let parser = EntityJsonParser::new(
            self.schema.as_ref(),
            Extensions::all_available(),
            TCComputation::AssumeAlreadyComputed,
        );
        parser
            .single_from_json_str(raw)
            .map_err(|error| full_message(&error))
    }
}
