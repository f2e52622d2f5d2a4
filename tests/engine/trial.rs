//! A random policy set with its store, compiled by us and known to stock Cedar.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign::model::{EntityDescription, Posture, Record, Request, ValidationMode, Value};
use countersign::policy::Snapshot;

use crate::random::{
    Dice, PolicySpec, RULES, Schema, StoredEntity, needs_clock, random_policies, random_request,
    random_store, to_json, vary,
};
use crate::stock::Stock;
use crate::support::Files;

/// How much a trial's policies and requests are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// No schema.
    None,
    /// A schema for requests and entities; policies are not checked.
    Requests,
    /// A schema, and strict validation of policies.
    Policies,
}

/// One random policy set.
pub(crate) struct Trial {
    pub(crate) seed: u64,
    pub(crate) care: Care,
    pub(crate) posture: Posture,
    pub(crate) schema: Schema,
    pub(crate) store: Vec<StoredEntity>,
    pub(crate) policies: Vec<PolicySpec>,
    pub(crate) files: Files,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) stock: Stock,
    pub(crate) dice: Dice,
}

/// How many policies a set has, about.
const POLICIES: usize = 20;

impl Trial {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let care = *dice.pick(&[Care::None, Care::Requests, Care::Policies]);
        let posture = *dice.pick(&[Posture::Strict, Posture::Cedar]);
        Self::with(seed, dice, care, posture)
    }

    /// A set in strict posture.
    pub(crate) fn strict(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let care = *dice.pick(&[Care::None, Care::Requests, Care::Policies]);
        Self::with(seed, dice, care, Posture::Strict)
    }

    /// A set with a schema.
    pub(crate) fn with_schema(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let care = *dice.pick(&[Care::Requests, Care::Policies]);
        let posture = *dice.pick(&[Posture::Strict, Posture::Cedar]);
        Self::with(seed, dice, care, posture)
    }

    fn with(seed: u64, mut dice: Dice, care: Care, posture: Posture) -> Self {
        let schema = Schema::random(&mut dice);
        let store = random_store(&mut dice, &schema, care == Care::None);
        // Many of the random policies do not pass validation.
        let (count, wild) = match care {
            Care::None | Care::Requests => (POLICIES + 5, true),
            Care::Policies => (POLICIES * 3, false),
        };
        let mut policies = random_policies(&mut dice, &schema, count, wild);
        let base = base_files(&schema, &store, care, posture);
        keep_what_compiles(&base, &mut policies);
        policies.truncate(POLICIES);
        let files = with_policies(&base, &policies);
        Self {
            seed,
            care,
            posture,
            snapshot: files.snapshot(),
            stock: Stock::new(
                (care != Care::None).then(|| schema.text()).as_deref(),
                &policies,
                &store,
            ),
            schema,
            store,
            policies,
            files,
            dice,
        }
    }

    pub(crate) fn has_schema(&self) -> bool {
        self.care != Care::None
    }

    /// Whether the policies fit the schema.
    pub(crate) fn is_validated(&self) -> bool {
        self.care == Care::Policies
    }

    /// Those of `policies` that are accepted.
    pub(crate) fn compiling(&self, mut policies: Vec<PolicySpec>) -> Vec<PolicySpec> {
        let base = base_files(&self.schema, &self.store, self.care, self.posture);
        keep_what_compiles(&base, &mut policies);
        policies
    }

    /// Adds to `request` what the server would supply.
    pub(crate) fn supply_clock(&self, request: &mut Request, clock: &str) {
        if self.has_schema() && needs_clock(&self.schema, request) {
            let clock = Value::Extension {
                function: "datetime".into(),
                argument: clock.to_owned(),
            };
            request.context.insert("now".to_owned(), clock);
        }
    }

    /// A request that leaves nothing to the server.
    pub(crate) fn request_with_clock(&mut self) -> Request {
        let mut request = self.request();
        self.supply_clock(&mut request, "1970-01-01");
        request
    }

    pub(crate) fn request(&mut self) -> Request {
        let has_schema = self.has_schema();
        random_request(&mut self.dice, &self.schema, &self.store, has_schema)
    }

    /// `request` but for one thing.
    pub(crate) fn vary(&mut self, request: &Request) -> Request {
        let has_schema = self.has_schema();
        vary(
            &mut self.dice,
            &self.schema,
            &self.store,
            has_schema,
            request,
        )
    }

    /// The same files with other policies.
    pub(crate) fn files_with(&self, policies: &[PolicySpec]) -> Files {
        let base = base_files(&self.schema, &self.store, self.care, self.posture);
        with_policies(&base, policies)
    }

    /// Everything it takes to see a failure again.
    pub(crate) fn reproduction(&self, request: &Request) -> String {
        format!(
            "seed {}, {:?}, posture {}\n{}----- request\n{}",
            self.seed,
            self.care,
            self.posture,
            self.files.show(),
            shown(request)
        )
    }
}

/// A request as JSON, with the context and attributes in Cedar's own.
pub(crate) fn shown(request: &Request) -> String {
    let described = |described: &EntityDescription| {
        StoredEntity {
            uid: described.uid.clone(),
            attributes: described.attributes.clone(),
            parents: described.parents.clone(),
            tags: Record::default(),
        }
        .json()
    };
    let json = serde_json::json!({
        "principal": request.principal.to_string(),
        "action": request.action,
        "resource": request.resource.to_string(),
        "context": to_json(&Value::Record(request.context.clone())),
        "entities": request.entities.iter().map(described).collect::<Vec<_>>(),
    });
    format!("{json:#}")
}

fn base_files(schema: &Schema, store: &[StoredEntity], care: Care, posture: Posture) -> Files {
    let entities: Vec<serde_json::Value> = store.iter().map(StoredEntity::json).collect();
    let files = Files::new("")
        .rules(&RULES)
        .posture(posture)
        .entities(&serde_json::Value::from(entities));
    match care {
        Care::None => files,
        Care::Requests => files.schema(&schema.text()).validation(ValidationMode::Off),
        Care::Policies => files.schema(&schema.text()),
    }
}

fn with_policies(base: &Files, policies: &[PolicySpec]) -> Files {
    let mut files = base.clone();
    let mut links = Vec::new();
    for policy in policies {
        files = files.with(&format!("{}.cedar", policy.id), policy.text());
        links.extend(policy.links_json());
    }
    files.links(&serde_json::Value::from(links))
}

/// Drops the policies that are not accepted.
fn keep_what_compiles(base: &Files, policies: &mut Vec<PolicySpec>) {
    loop {
        let report = with_policies(base, policies).compile();
        if report.snapshot.is_some() {
            return;
        }
        let refused: BTreeSet<&str> = report
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .map(|problem| {
                problem
                    .file
                    .strip_suffix(".cedar")
                    .unwrap_or_else(|| panic!("not about a policy: {problem}"))
            })
            .collect();
        policies.retain(|policy| !refused.contains(policy.id.as_str()));
    }
}
