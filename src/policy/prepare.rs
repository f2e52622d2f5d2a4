//! A request that fits the schema, ready to be looked up or decided.

use std::sync::Arc;

use crate::model::{EntityDescription, EntityRef, Request, RequestFault, RequestProblem};

use super::APPROVE_ACTION;
use super::action::{ActionInfo, CLOCK_ATTRIBUTE, Declared};
use super::cedar::EntityUID;
use super::convert::to_uid;
use super::schema::EntityTypes;
use super::snapshot::Snapshot;

/// Which requests may be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// What callers ask; the built-in action is not theirs to name.
    Callers,
    /// What the engine asks itself: whether a reviewer may approve.
    Engine,
}

/// A request that fits the schema. Extension values and references are what the schema says they are.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(super) request: Request,
    pub(super) action: Arc<ActionInfo>,
    /// Whether deciding it reads the server's clock.
    pub(super) needs_clock: bool,
}

impl Prepared {
    /// The request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The action's full name, `Ns::Action::"Deploy"`.
    pub fn action_name(&self) -> &str {
        &self.action.name
    }

    /// The request, given back.
    pub fn into_request(self) -> Request {
        self.request
    }

    /// Whether its answer may be looked up and kept: not if an applicable policy reads the server's clock.
    pub fn is_cacheable(&self) -> bool {
        !self.needs_clock
    }
}

/// Checks `request` against what `snapshot` knows.
pub(super) fn prepare(
    snapshot: &Snapshot,
    mut request: Request,
    door: Door,
) -> Result<Prepared, RequestProblem> {
    let action = snapshot.actions.find(&request.action, &snapshot.store)?;
    if door == Door::Callers && action.name == APPROVE_ACTION {
        let message = "this action is reserved: it asks the engine who may approve";
        return Err(RequestProblem::new(
            RequestFault::Invalid,
            "action",
            message,
        ));
    }
    let types = &snapshot.types;
    check_type(types, &request.principal, "principal.type")?;
    check_type(types, &request.resource, "resource.type")?;
    let mut needs_clock = false;
    if let Some(declared) = &action.declared {
        check_applies(declared, &action, &request)?;
        let supplied = declared.has_clock.then_some(CLOCK_ATTRIBUTE);
        declared
            .context
            .0
            .fit(&mut request.context, types, supplied)
            .map_err(|misfit| mismatch("context", &misfit.path, misfit.message))?;
        needs_clock = action.reads_clock() && request.context.get(CLOCK_ATTRIBUTE).is_none();
    }
    if !request.entities.is_empty() {
        check_descriptions(snapshot, &mut request)?;
    }
    Ok(Prepared {
        request,
        action,
        needs_clock,
    })
}

fn mismatch(field: &str, path: &str, message: String) -> RequestProblem {
    let separator = if path.is_empty() { "" } else { "." };
    RequestProblem::new(
        RequestFault::SchemaMismatch,
        format!("{field}{separator}{path}"),
        message,
    )
}

fn check_type(types: &EntityTypes, uid: &EntityRef, field: &str) -> Result<(), RequestProblem> {
    types
        .check_reference(uid)
        .map_err(|message| RequestProblem::new(RequestFault::UnknownEntityType, field, message))
}

fn check_applies(
    declared: &Declared,
    action: &ActionInfo,
    request: &Request,
) -> Result<(), RequestProblem> {
    let sides = [
        (&declared.principals, &request.principal, "principal.type"),
        (&declared.resources, &request.resource, "resource.type"),
    ];
    for (allowed, uid, field) in sides {
        if !allowed.contains(&uid.type_name) {
            let allowed: Vec<String> = allowed.iter().map(|name| format!("`{name}`")).collect();
            let expected = if allowed.is_empty() {
                "nothing: it is a group".to_owned()
            } else {
                allowed.join(", ")
            };
            let message = format!(
                "`{}` does not apply to a `{}`, only to {expected}",
                action.id, uid.type_name
            );
            return Err(RequestProblem::new(
                RequestFault::ActionDoesNotApply,
                field,
                message,
            ));
        }
    }
    Ok(())
}

/// Checks what `request` describes against the schema and the store, and turns its values into what the schema says they are.
pub(super) fn check_descriptions(
    snapshot: &Snapshot,
    request: &mut Request,
) -> Result<(), RequestProblem> {
    let mut described: Vec<EntityRef> = Vec::with_capacity(request.entities.len());
    let principal = request.principal.clone();
    let resource = request.resource.clone();
    for (index, description) in request.entities.iter_mut().enumerate() {
        let field = || match () {
            () if description.uid == principal => "principal".to_owned(),
            () if description.uid == resource => "resource".to_owned(),
            () => format!("entities[{index}]"),
        };
        let field = field();
        if described.contains(&description.uid) {
            let message = format!("`{}` is described twice", description.uid);
            return Err(RequestProblem::new(
                RequestFault::DuplicateEntity,
                field,
                message,
            ));
        }
        check_description(snapshot, description, &field)?;
        described.push(description.uid.clone());
    }
    Ok(())
}

fn check_description(
    snapshot: &Snapshot,
    description: &mut EntityDescription,
    field: &str,
) -> Result<(), RequestProblem> {
    let types = &snapshot.types;
    check_type(types, &description.uid, &format!("{field}.type"))?;
    let uid = to_uid(&description.uid, types).filter(|uid| !uid.entity_type().is_action());
    let Some(uid) = uid else {
        let message = "actions are declared by the schema and cannot be described";
        return Err(RequestProblem::new(
            RequestFault::Invalid,
            format!("{field}.type"),
            message,
        ));
    };
    refuse_stored(snapshot, &uid, description, field)?;
    let info = types.get(&description.uid.type_name);
    for (index, parent) in description.parents.iter().enumerate() {
        let field = format!("{field}.parents[{index}]");
        check_type(types, parent, &format!("{field}.type"))?;
        if info.is_some_and(|info| !info.ancestors.contains(&parent.type_name)) {
            let message = format!(
                "a `{}` cannot be in a `{}`",
                description.uid.type_name, parent.type_name
            );
            return Err(RequestProblem::new(
                RequestFault::SchemaMismatch,
                field,
                message,
            ));
        }
    }
    let Some(info) = info else {
        return Ok(());
    };
    info.shape
        .fit(&mut description.attributes, types, None)
        .map_err(|misfit| mismatch(&format!("{field}.attributes"), &misfit.path, misfit.message))
}

/// The store is authoritative: a caller cannot change what it says.
fn refuse_stored(
    snapshot: &Snapshot,
    uid: &EntityUID,
    description: &EntityDescription,
    field: &str,
) -> Result<(), RequestProblem> {
    if snapshot.store.get(uid).is_none() {
        return Ok(());
    }
    let message = format!(
        "`{}` is stored here; name it without attributes and parents",
        description.uid
    );
    Err(RequestProblem::new(
        RequestFault::EntityRedefined,
        field,
        message,
    ))
}

#[cfg(test)]
mod tests {
    use crate::model::{Record, ValidationMode};
    use crate::policy::{Bundle, CompileOptions, compile};

    use super::*;

    #[test]
    fn without_a_schema_a_parent_still_needs_a_type_that_can_exist() {
        let options = CompileOptions {
            validation: ValidationMode::Off,
            ..CompileOptions::default()
        };
        let snapshot = compile(&Bundle::new([]), &options).snapshot.unwrap();
        let user = EntityRef::new("User", "u");
        let mut request = Request::new(user.clone(), "Read", user.clone(), Record::default());
        request.entities.push(EntityDescription {
            uid: user,
            attributes: Record::default(),
            parents: vec![EntityRef::new("Te!m", "t")],
        });
        let problem = snapshot.prepare(request).unwrap_err();
        assert_eq!(problem.field, "principal.parents[0].type");
    }
}
