//! One policy set, compiled: everything a decision needs, immutable.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    Decided, EntityRef, PolicySetInfo, PolicyVersion, Posture, Redactions, Request, RequestFault,
    RequestProblem, Rule, Value,
};

use super::action::{ActionTable, CLOCK_ATTRIBUTE};
use super::cedar::{Entities, EntityUID, Extensions, Request as CedarRequest};
use super::convert::{from_uid, to_context, to_uid};
use super::engine::{Engine, Reference, evaluate_candidates, unchecked_request};
use super::entities::EntityStore;
use super::index::{Question, ScopeIndex, Side};
use super::outcome::{self, Findings};
use super::persons::Persons;
use super::policies::CompiledPolicy;
use super::prepare::{Door, Prepared, prepare};
use super::schema::{EntityTypes, Schema};
use super::slice;

/// A compiled policy set.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) info: PolicySetInfo,
    pub(super) schema: Option<Schema>,
    pub(super) types: EntityTypes,
    pub(super) store: EntityStore,
    pub(super) persons: Persons,
    /// The attributes that name the owners of an agent.
    pub(super) owner_attributes: Vec<String>,
    /// Sorted by id.
    pub(super) policies: Vec<CompiledPolicy>,
    pub(super) index: ScopeIndex,
    pub(super) actions: ActionTable,
    pub(super) reference: Reference,
    pub(super) rules: BTreeMap<String, Arc<Rule>>,
    pub(super) redactions: Redactions,
    /// Whether no policy looks into an entity that it names.
    pub(super) is_level_validated: bool,
}

impl Snapshot {
    /// Which files it was made of.
    pub fn version(&self) -> &PolicyVersion {
        &self.info.version
    }

    /// What it holds.
    pub fn info(&self) -> &PolicySetInfo {
        &self.info
    }

    /// The approval rules, by name.
    pub fn rules(&self) -> &BTreeMap<String, Arc<Rule>> {
        &self.rules
    }

    /// What is kept out of the audit log.
    pub fn redactions(&self) -> &Redactions {
        &self.redactions
    }

    /// Checks that `request` fits the schema, and readies it for [`Prepared::write_key`] and [`Snapshot::plan`].
    ///
    /// # Errors
    /// What the caller got wrong, with the field.
    pub fn prepare(&self, request: Request) -> Result<Prepared, RequestProblem> {
        prepare(self, request, Door::Callers)
    }

    /// Gathers what deciding takes: the entities and the policies that could matter. `now` is used only if a policy can read it.
    ///
    /// # Errors
    /// When Cedar's own check refuses the request, or its entities cannot be built.
    pub fn plan(
        self: &Arc<Self>,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Plan, RequestProblem> {
        let parts = self.parts(prepared, now)?;
        Ok(Plan {
            snapshot: Arc::clone(self),
            parts,
        })
    }

    pub(super) fn parts(
        &self,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<PlanParts, RequestProblem> {
        let request = &prepared.request;
        let principal = self.uid_of(&request.principal, "principal.type")?;
        let resource = self.uid_of(&request.resource, "resource.type")?;
        let context = self.context_of(prepared, now)?;
        let sliced = slice::collect(self, prepared, &principal, &resource, &context)
            .map_err(|message| RequestProblem::new(RequestFault::Invalid, "entities", message))?;
        let action = &prepared.action.entity;
        let side = |uid| Side {
            uid,
            entity: find(&sliced.entities, uid),
        };
        let question = Question {
            principal: side(&principal),
            action,
            resource: side(&resource),
            context: &context,
        };
        let candidates = self.index.candidates(&self.policies, &question);
        let request = unchecked_request(principal, prepared.action.uid.clone(), resource, context);
        self.check_with_cedar(&request)?;
        Ok(PlanParts {
            request,
            entities: sliced.entities,
            missing: sliced.missing,
            candidates,
            read_clock: prepared.needs_clock,
        })
    }

    fn uid_of(&self, uid: &EntityRef, field: &str) -> Result<EntityUID, RequestProblem> {
        to_uid(uid, &self.types).ok_or_else(|| {
            RequestProblem::new(
                RequestFault::UnknownEntityType,
                field,
                self.types.unknown(&uid.type_name),
            )
        })
    }

    fn context_of(
        &self,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<super::cedar::Context, RequestProblem> {
        let invalid = |message| RequestProblem::new(RequestFault::Invalid, "context", message);
        // The schema may require the clock although no policy reads it.
        let supplies_clock =
            prepared.action.has_clock() && prepared.request.context.get(CLOCK_ATTRIBUTE).is_none();
        if !supplies_clock {
            return to_context(&prepared.request.context, &self.types).map_err(invalid);
        }
        let mut context = prepared.request.context.clone();
        let clock = Value::Extension {
            function: "datetime".into(),
            argument: now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        };
        context.insert(CLOCK_ATTRIBUTE.to_owned(), clock);
        to_context(&context, &self.types).map_err(invalid)
    }

    /// Cedar's own check is the authority on what fits the schema; ours only comes first.
    fn check_with_cedar(&self, request: &CedarRequest) -> Result<(), RequestProblem> {
        use cedar_policy_core::ast::RequestSchema as _;
        let Some(schema) = &self.schema else {
            return Ok(());
        };
        schema
            .validator
            .validate_request(request, Extensions::all_available())
            .map_err(|error| {
                let message = super::diagnostics::full_message(&error);
                RequestProblem::new(RequestFault::SchemaMismatch, "request", message)
            })
    }

    pub(super) fn findings(&self, parts: &PlanParts, engine: Engine) -> Findings {
        match engine {
            Engine::Index => evaluate_candidates(
                &self.policies,
                &parts.candidates,
                &parts.request,
                &parts.entities,
            ),
            Engine::Full => {
                self.reference
                    .evaluate(&self.policies, &parts.request, &parts.entities)
            }
        }
    }

    pub(super) fn conclude(&self, parts: &PlanParts, findings: Findings) -> Decided {
        outcome::decide(
            &self.policies,
            findings,
            self.info.posture,
            parts.read_clock,
        )
    }

    /// Whether a missing entity stops the decision.
    pub(super) fn denies_missing(&self, parts: &PlanParts) -> bool {
        self.info.posture == Posture::Strict && !parts.missing.is_empty()
    }

    /// The context attributes that can change decisions on each action, by action name; for reports.
    pub fn relevant_context(&self) -> BTreeMap<String, Vec<String>> {
        let relevant = |info: &Arc<super::action::ActionInfo>| {
            let mut names: Vec<String> = info.footprint.context.iter().cloned().collect();
            if info.footprint.whole_context {
                names = vec!["(all)".to_owned()];
            }
            (info.name.clone(), names)
        };
        self.actions.iter().map(relevant).collect()
    }

    /// The stored entities' names, in no order.
    pub fn stored_entities(&self) -> impl Iterator<Item = EntityRef> {
        self.store.iter().map(|entity| from_uid(entity.uid()))
    }
}

pub(super) fn find<'e>(
    entities: &'e Entities,
    uid: &EntityUID,
) -> Option<&'e super::cedar::Entity> {
    match entities.entity(uid) {
        cedar_policy_core::entities::Dereference::Data(entity) => Some(entity),
        cedar_policy_core::entities::Dereference::NoSuchEntity
        | cedar_policy_core::entities::Dereference::Residual(_) => None,
    }
}

/// What deciding one request takes.
#[derive(Debug)]
pub(super) struct PlanParts {
    pub(super) request: CedarRequest,
    pub(super) entities: Entities,
    pub(super) missing: Vec<EntityRef>,
    pub(super) candidates: Vec<u32>,
    pub(super) read_clock: bool,
}

/// A request with everything at hand to decide it; may be sent to another thread when it is long.
#[derive(Debug)]
pub struct Plan {
    snapshot: Arc<Snapshot>,
    parts: PlanParts,
}

impl Plan {
    /// How many policies have to be evaluated, at 0.3 to 2 µs each.
    pub fn evaluations(&self, engine: Engine) -> usize {
        match engine {
            Engine::Index => self.parts.candidates.len(),
            Engine::Full => self.snapshot.policies.len(),
        }
    }

    /// Decides.
    pub fn decide(&self, engine: Engine) -> Decided {
        if self.snapshot.denies_missing(&self.parts) {
            return outcome::missing(self.parts.missing.clone(), self.parts.read_clock);
        }
        let findings = self.snapshot.findings(&self.parts, engine);
        self.snapshot.conclude(&self.parts, findings)
    }
}
