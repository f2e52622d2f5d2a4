//! From a bundle to a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Effect, PolicyProblem, PolicySetInfo, PolicyVersion, Posture, Redactions, Rule, Severity,
    ValidationMode,
};

use super::action::ActionTable;
use super::audit_annotations;
use super::bundle::{Bundle, BundleLimits, FileKind};
use super::cases;
use super::cedar::{
    Effect as CedarEffect, Policy, PolicyID, Template, ValidationMode as CedarValidation,
    ValidationResult, Validator,
};
use super::diagnostics::{self, full_message, problem_of};
use super::engine::Reference;
use super::entities::{self, EntityStore};
use super::index::ScopeIndex;
use super::persons::Persons;
use super::policies::{CompiledPolicy, Policies};
use super::policy_files;
use super::rules;
use super::schema::{self, EntityTypes, Schema};
use super::snapshot::Snapshot;

/// How many references deep policies may look, where validation is strict.
const MAX_LEVEL: u32 = 4;

/// How a bundle is compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// How policies are checked against the schema.
    pub validation: ValidationMode,
    /// What becomes of errors and missing entities.
    pub posture: Posture,
    /// The entity types whose entities may review, `User` unless configured.
    pub reviewer_types: Vec<String>,
    /// The attributes that name the owners of an agent, `owner` and `owners` unless configured: a reference or a set of them.
    pub owner_attributes: Vec<String>,
    /// The attributes by which an account names other accounts of the same person, `same_person_as` unless configured.
    pub link_attributes: Vec<String>,
    /// Whether the bundle's own decision cases must pass.
    pub run_cases: bool,
    /// How large the bundle may be.
    pub limits: BundleLimits,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            validation: ValidationMode::Strict,
            posture: Posture::Strict,
            reviewer_types: vec!["User".to_owned()],
            owner_attributes: vec!["owner".to_owned(), "owners".to_owned()],
            link_attributes: vec!["same_person_as".to_owned()],
            run_cases: true,
            limits: BundleLimits::DEFAULT,
        }
    }
}

/// What compiling found.
#[derive(Debug)]
pub struct CompileReport {
    /// Which files were compiled.
    pub version: PolicyVersion,
    /// The snapshot, unless there are errors.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Everything found, errors first, then by place.
    pub problems: Vec<PolicyProblem>,
}

/// Compiles `bundle`.
///
/// Recurses as deep as its policies nest (see `guard`), so it must run on a thread with a stack of 256 MiB.
pub fn compile(bundle: &Bundle, options: &CompileOptions) -> CompileReport {
    let mut problems = Vec::new();
    let mut snapshot = build(bundle, options, &mut problems);
    if problems.iter().any(PolicyProblem::is_error) {
        snapshot = None;
    }
    let mut snapshot = snapshot.map(Arc::new);
    if let Some(built) = snapshot.take() {
        snapshot = run_cases(bundle, options, built, &mut problems);
    }
    problems.sort();
    problems.dedup();
    CompileReport {
        version: bundle.version().clone(),
        snapshot,
        problems,
    }
}

fn build(
    bundle: &Bundle,
    options: &CompileOptions,
    problems: &mut Vec<PolicyProblem>,
) -> Option<Snapshot> {
    let rules = read_rules(bundle, problems);
    let schema_files = bundle.texts(FileKind::Schema, problems);
    let (schema, types) = schema::read(&schema_files, &options.reviewer_types, problems);
    let policies = policy_files::read(
        &bundle.texts(FileKind::Policies, problems),
        &bundle.texts(FileKind::Links, problems),
        &rules,
        options.limits.policies,
        problems,
    );
    let store = entities::read(
        &bundle.texts(FileKind::Entities, problems),
        schema.as_ref(),
        problems,
    );
    if problems.iter().any(PolicyProblem::is_error) {
        return None;
    }
    // After the schema is known to be good: it says which values are references.
    let persons = Persons::of(&store, options, problems);
    if problems.iter().any(PolicyProblem::is_error) {
        return None;
    }
    if let Some(schema) = &schema {
        validate(schema, &policies, options.validation, problems);
    }
    if policies.compiled.is_empty() {
        problems.push(
            PolicyProblem::warning("", "there are no policies, so everything is denied")
                .with_help("write policies in files ending in `.cedar`"),
        );
    }
    warn_open_scopes(&policies, problems);
    let redactions = audit_annotations::read(&policies.compiled, problems);
    Some(assemble(
        bundle,
        options,
        Compiled {
            schema,
            types,
            store,
            persons,
            policies: policies.compiled,
            rules,
            redactions,
        },
    ))
}

/// Everything a bundle holds, read and checked.
struct Compiled {
    schema: Option<Schema>,
    types: EntityTypes,
    store: EntityStore,
    persons: Persons,
    policies: Vec<CompiledPolicy>,
    rules: BTreeMap<String, Arc<Rule>>,
    redactions: Redactions,
}

fn assemble(bundle: &Bundle, options: &CompileOptions, compiled: Compiled) -> Snapshot {
    let Compiled {
        schema,
        types,
        store,
        persons,
        policies,
        rules,
        redactions,
    } = compiled;
    let count = |effect| {
        policies
            .iter()
            .filter(|policy| policy.effect == effect)
            .count()
    };
    Snapshot {
        info: PolicySetInfo {
            version: bundle.version().clone(),
            permits: count(Effect::Permit),
            forbids: count(Effect::Forbid),
            gates: count(Effect::Gate),
            rules: rules.len(),
            entities: store.len(),
            cases_passed: 0,
            posture: options.posture,
            validation: options.validation,
            warnings: Vec::new(),
        },
        is_level_validated: schema.is_some() && options.validation == ValidationMode::Strict,
        actions: ActionTable::compile(schema.as_ref(), &policies),
        index: ScopeIndex::build(&policies),
        reference: Reference::build(&policies),
        owner_attributes: options.owner_attributes.clone(),
        schema,
        types,
        store,
        persons,
        policies,
        rules,
        redactions,
    }
}

fn read_rules(bundle: &Bundle, problems: &mut Vec<PolicyProblem>) -> BTreeMap<String, Arc<Rule>> {
    let mut rules = BTreeMap::new();
    for (path, text) in bundle.texts(FileKind::Rules, problems) {
        match rules::parse(path, text) {
            Ok(parsed) => rules.extend(parsed),
            Err(found) => problems.extend(found),
        }
    }
    rules
}

fn validate(
    schema: &Schema,
    policies: &Policies,
    mode: ValidationMode,
    problems: &mut Vec<PolicyProblem>,
) {
    let severity = match mode {
        ValidationMode::Strict => Severity::Error,
        ValidationMode::Warn => Severity::Warning,
        ValidationMode::Off => return,
    };
    let validator = Validator::new(schema.validator.clone());
    let result = ValidationResult::from(validator.validate_with_level(
        &policies.set,
        CedarValidation::Strict,
        MAX_LEVEL,
    ));
    for error in result.validation_errors() {
        let id = PolicyID::from_string(error.policy_id());
        diagnostics::add(problems, severity, || PolicyProblem {
            severity,
            ..located(policies, &id, error)
        });
    }
    for warning in result.validation_warnings() {
        // A forbid that can never match protects nothing, which is a mistake worth stopping for; a permit only grants nothing.
        let id = PolicyID::from_string(warning.policy_id());
        // A finding about a template bears the template's id, not those of its links.
        let template = policies.set.get_template(&id).map(Template::effect);
        let effect = template.or_else(|| policies.set.get(&id).map(Policy::effect));
        let severity = match effect {
            Some(CedarEffect::Permit) => Severity::Warning,
            Some(CedarEffect::Forbid) | None => severity,
        };
        diagnostics::add(problems, severity, || PolicyProblem {
            severity,
            ..located(policies, &id, warning)
        });
    }
}

fn located(
    policies: &Policies,
    id: &PolicyID,
    diagnostic: &dyn miette::Diagnostic,
) -> PolicyProblem {
    let file = policies.files.get(id).map_or("", |file| file.as_ref());
    let template = policies.set.get_template(id);
    let loc = policies.set.get(id).map_or_else(
        || template.and_then(|template| template.loc()),
        |policy| policy.loc(),
    );
    let text = loc.map_or("", |loc| loc.src.as_ref());
    let problem = problem_of(file, text, diagnostic);
    if problem.line > 0 {
        return problem;
    }
    // Some of Cedar's findings point at no expression; then the policy is the place.
    let message = full_message(diagnostic);
    diagnostics::at_location(PolicyProblem { message, ..problem }, loc)
}

/// Policies that name neither entities nor types cannot be indexed: each is evaluated for every request of its actions.
fn warn_open_scopes(policies: &Policies, problems: &mut Vec<PolicyProblem>) {
    const MANY: usize = 500;
    let open: Vec<&str> = policies
        .compiled
        .iter()
        .filter(|policy| policy.is_open())
        .map(|policy| policy.id.as_str())
        .collect();
    if open.len() > MANY {
        let named: Vec<&str> = open.iter().copied().take(5).collect();
        let message = format!(
            "{} policies name neither an entity nor a type in their scope (`{}`, ..), so each is evaluated for every request",
            open.len(),
            named.join("`, `"),
        );
        problems.push(
            PolicyProblem::warning("", message)
                .with_help("say in the scope who or what the policy is about: `principal in Team::\"x\"`, `resource is Host`"),
        );
    }
}

/// Runs the bundle's decision cases; a case that does not hold keeps the snapshot from being used.
fn run_cases(
    bundle: &Bundle,
    options: &CompileOptions,
    mut snapshot: Arc<Snapshot>,
    problems: &mut Vec<PolicyProblem>,
) -> Option<Arc<Snapshot>> {
    let mut passed = 0;
    if options.run_cases {
        let report = cases::run_cases(&snapshot, bundle);
        passed = report
            .results
            .iter()
            .filter(|result| result.failure.is_none())
            .count();
        problems.extend(report.problems());
    }
    if problems.iter().any(PolicyProblem::is_error) {
        return None;
    }
    let warnings = problems.clone();
    let info = &mut Arc::get_mut(&mut snapshot)?.info;
    info.cases_passed = passed;
    info.warnings = warnings;
    Some(snapshot)
}
