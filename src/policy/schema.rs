//! The schema: entity types and actions, with the built-in action that asks who may approve.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use crate::model::{EntityRef, PolicyProblem};

use super::cedar::{EntityType, Extensions, ValidatorEntityTypeKind, ValidatorSchema};
use super::diagnostics::{problem_of, problems_of};
use super::guard::{self, Grammar};
use super::shape::{RecordShape, allowed_ancestors};

/// The name of the one schema file.
pub(super) const SCHEMA_FILE: &str = "schema.cedarschema";
const RESERVED_NAMESPACE: &str = "Countersign";
/// Cedar refuses a name in a namespace that is also in the default one.
const SHADOWED_ACTION: &str = "Action::\"Approve\"";

/// What the schema, or the lack of one, says of entity types.
#[derive(Debug, Default)]
pub(super) struct EntityTypes {
    declared: HashMap<String, TypeInfo, foldhash::fast::RandomState>,
    has_schema: bool,
}

/// One entity type.
#[derive(Debug)]
pub(super) struct TypeInfo {
    pub(super) entity_type: EntityType,
    pub(super) shape: RecordShape,
    /// The ids an enumerated type has.
    choices: Option<BTreeSet<String>>,
    /// The types its entities may descend from.
    pub(super) ancestors: BTreeSet<String>,
    /// Whether its entities hold nothing that a policy could read, so that they need not be stored.
    pub(super) is_bare: bool,
}

impl EntityTypes {
    fn of(schema: &ValidatorSchema) -> Self {
        let declared = schema.entity_types().map(|declared| {
            let ancestors = allowed_ancestors(schema, declared.name());
            let shape = RecordShape::compile(declared.attributes());
            let is_bare = declared.attributes().iter().next().is_none()
                && ancestors.is_empty()
                && declared.tag_type().is_none();
            let choices = match &declared.kind {
                ValidatorEntityTypeKind::Enum(choices) => Some(
                    choices
                        .iter()
                        .map(|choice| AsRef::<str>::as_ref(choice).to_owned())
                        .collect(),
                ),
                ValidatorEntityTypeKind::Standard(_) | ValidatorEntityTypeKind::External => None,
            };
            let info = TypeInfo {
                entity_type: declared.name().clone(),
                shape,
                choices,
                ancestors,
                is_bare,
            };
            (declared.name().to_string(), info)
        });
        Self {
            declared: declared.collect(),
            has_schema: true,
        }
    }

    /// The declared type called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&TypeInfo> {
        self.declared.get(name)
    }

    /// Cedar's form of the type called `name`: the declared one, or without a schema any well-formed name.
    pub(super) fn resolve(&self, name: &str) -> Option<EntityType> {
        match self.declared.get(name) {
            Some(info) => Some(info.entity_type.clone()),
            None if self.has_schema => None,
            None => name.parse().ok().map(EntityType::EntityType),
        }
    }

    /// Whether an entity of this type need not be stored or described.
    pub(super) fn is_bare(&self, name: &str) -> bool {
        self.declared.get(name).is_some_and(|info| info.is_bare)
    }

    /// Whether entities of this type can be in others.
    pub(super) fn can_be_in_groups(&self, name: &str) -> bool {
        self.declared
            .get(name)
            .is_none_or(|info| !info.ancestors.is_empty())
    }

    /// Checks that `uid` can exist.
    ///
    /// # Errors
    /// A sentence that says why it cannot.
    pub(super) fn check_reference(&self, uid: &EntityRef) -> Result<(), String> {
        match self.declared.get(&uid.type_name) {
            Some(info) => match &info.choices {
                Some(choices) if !choices.contains(&uid.id) => {
                    let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
                    Err(format!(
                        "`{}` has only the ids {}",
                        uid.type_name,
                        choices.join(", ")
                    ))
                }
                Some(_) | None => Ok(()),
            },
            None if self.has_schema => Err(self.unknown(&uid.type_name)),
            None if self.resolve(&uid.type_name).is_some() => Ok(()),
            None => Err(format!(
                "`{}` is not the name of an entity type",
                uid.type_name
            )),
        }
    }

    /// A sentence that says that there is no type called `name`.
    pub(super) fn unknown(&self, name: &str) -> String {
        let nearest = self
            .declared
            .keys()
            .map(|known| (strsim::osa_distance(known, name), known))
            .filter(|(distance, _)| *distance <= 3)
            .min();
        match nearest {
            Some((_, nearest)) => {
                format!("the schema has no entity type `{name}`; did you mean `{nearest}`?")
            }
            None => format!("the schema has no entity type `{name}`"),
        }
    }
}

/// A schema, ready for use.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) validator: ValidatorSchema,
}

/// Reads the schema file and adds the built-in action.
///
/// Without a file there is no schema: Cedar permits that, and a warning says what is lost.
pub(super) fn read(
    files: &[(&str, &str)],
    reviewer_types: &[String],
    problems: &mut Vec<PolicyProblem>,
) -> (Option<Schema>, EntityTypes) {
    for (path, _) in files.iter().filter(|(path, _)| *path != SCHEMA_FILE) {
        problems.push(
            PolicyProblem::error(*path, "a policy set has one schema").with_help(format!(
                "move its declarations to `{SCHEMA_FILE}` at the top of the directory"
            )),
        );
    }
    let Some((path, text)) = files.iter().find(|(path, _)| *path == SCHEMA_FILE) else {
        problems.push(
            PolicyProblem::warning(
                "",
                "there is no schema, so policies and requests are not checked",
            )
            .with_help(format!(
                "declare the entity types and actions in `{SCHEMA_FILE}`"
            )),
        );
        return (None, EntityTypes::default());
    };
    match parse(path, text, reviewer_types) {
        Ok((validator, warnings)) => {
            problems.extend(warnings);
            let types = EntityTypes::of(&validator);
            (Some(Schema { validator }), types)
        }
        Err(errors) => {
            problems.extend(errors);
            (None, EntityTypes::default())
        }
    }
}

fn parse(
    path: &str,
    text: &str,
    reviewer_types: &[String],
) -> Result<(ValidatorSchema, Vec<PolicyProblem>), Vec<PolicyProblem>> {
    guard::check_text(path, text, Grammar::Schema).map_err(|problem| vec![problem])?;
    let extensions = Extensions::all_available();
    let (declared, warnings) = ValidatorSchema::from_cedarschema_str(text, extensions)
        .map_err(|error| problems_of(path, text, &error))?;
    let mut problems: Vec<PolicyProblem> = warnings
        .map(|warning| PolicyProblem {
            severity: crate::model::Severity::Warning,
            ..problem_of(path, text, &warning)
        })
        .collect();
    if let Some(reserved) = uses_reserved_namespace(&declared) {
        let problem = PolicyProblem::error(
            path,
            format!("`{reserved}` is in the reserved namespace `{RESERVED_NAMESPACE}`"),
        )
        .at_offset(text, text.find(RESERVED_NAMESPACE).unwrap_or(0))
        .with_help(
            "choose another namespace; the action `Countersign::Action::\"Approve\"` is built in",
        );
        return Err(vec![problem]);
    }
    if declared
        .action_ids()
        .any(|action| action.name().to_string() == SHADOWED_ACTION)
    {
        let message = "the action `Approve` cannot be in the default namespace, where the built-in action of that name would hide it";
        let problem = PolicyProblem::error(path, message)
            .at_offset(text, text.find("Approve").unwrap_or(0))
            .with_help("call it something else, or put it in a namespace");
        return Err(vec![problem]);
    }
    if let Err(incomplete) = declared.check_complete() {
        return Err(problems_of(path, text, &incomplete));
    }
    let Some(fragment) = approve_fragment(&declared, reviewer_types) else {
        problems.push(
            PolicyProblem::warning(path, format!("nobody can approve: the schema has no entity type {}", list(reviewer_types)))
                .with_help("declare the type of the people who review, or name it in the configuration (`policy.reviewer_types`)"),
        );
        return Ok((declared, problems));
    };
    // The fragment stands behind the user's text, so places in the user's text stay what they are.
    let (schema, _) =
        ValidatorSchema::from_cedarschema_str(&format!("{text}\n{fragment}"), extensions)
            .map_err(|error| problems_of(path, text, &error))?;
    Ok((schema, problems))
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

fn uses_reserved_namespace(schema: &ValidatorSchema) -> Option<String> {
    let types = schema.entity_type_names().map(ToString::to_string);
    let actions = schema.action_ids().map(|action| action.name().to_string());
    types
        .chain(actions)
        .find(|name| name.starts_with("Countersign::"))
}

/// The declaration of the built-in action: reviewers approve, on any resource that some action applies to.
fn approve_fragment(schema: &ValidatorSchema, reviewer_types: &[String]) -> Option<String> {
    let reviewers: Vec<&str> = reviewer_types
        .iter()
        .map(String::as_str)
        .filter(|name| {
            schema
                .entity_type_names()
                .any(|known| known.to_string() == **name)
        })
        .collect();
    let resources: BTreeSet<String> = schema
        .action_ids()
        .flat_map(cedar_policy_core::validator::ValidatorActionId::applies_to_resources)
        .map(ToString::to_string)
        .collect();
    if reviewers.is_empty() || resources.is_empty() {
        return None;
    }
    let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
    let mut fragment = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        fragment,
        "namespace {RESERVED_NAMESPACE} {{ action \"Approve\" appliesTo {{ principal: [{}], resource: [{}], context: {{ \
         rule: String, slot: String, action: String, requester: {{ type: String, id: String }}, \
         on_behalf_of: Set<{{ type: String, id: String }}>, escalated: Bool }} }}; }}",
        reviewers.join(", "),
        resources.join(", "),
    );
    Some(fragment)
}
