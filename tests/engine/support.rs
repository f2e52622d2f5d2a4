//! Builders of policy sets and requests, and the words in which the tests say what they expect.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use countersign::model::{
    Decided, DenyReason, EntityDescription, EntityRef, Outcome, Posture, Record, Request,
    RequestProblem, Severity, ValidationMode, Value,
};
use countersign::policy::{
    Bundle, BundleFile, CompileOptions, CompileReport, Engine, Snapshot, compile, parse_entity,
};
use countersign::usecase::on_large_stack;
use jiff::Timestamp;

/// The time that every decision is made at, unless a test says otherwise.
pub(crate) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A policy directory in the making.
#[derive(Clone)]
pub(crate) struct Files {
    files: BTreeMap<String, Vec<u8>>,
    options: CompileOptions,
}

impl Files {
    /// `policies` and nothing else.
    pub(crate) fn new(policies: &str) -> Self {
        let empty = Self {
            files: BTreeMap::new(),
            options: CompileOptions::default(),
        };
        empty.with("policies.cedar", policies)
    }

    /// With one more file.
    pub(crate) fn with(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.to_owned(), bytes.as_ref().to_vec());
        self
    }

    pub(crate) fn schema(self, text: &str) -> Self {
        self.with("schema.cedarschema", text)
    }

    pub(crate) fn entities(self, json: &serde_json::Value) -> Self {
        self.with("entities/entities.json", json.to_string())
    }

    pub(crate) fn links(self, json: &serde_json::Value) -> Self {
        self.with("links/links.json", json.to_string())
    }

    /// With an approval rule for each of `names`.
    pub(crate) fn rules(self, names: &[&str]) -> Self {
        self.with("approvals.toml", rules(names))
    }

    pub(crate) fn posture(mut self, posture: Posture) -> Self {
        self.options.posture = posture;
        self
    }

    pub(crate) fn validation(mut self, validation: ValidationMode) -> Self {
        self.options.validation = validation;
        self
    }

    pub(crate) fn compile(&self) -> CompileReport {
        let bundle = Bundle::new(self.files.iter().map(|(path, bytes)| BundleFile {
            path: path.clone(),
            bytes: bytes.clone(),
        }));
        on_large_stack(|| compile(&bundle, &self.options)).unwrap()
    }

    /// The compiled set; there must be no errors.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let report = self.compile();
        report.snapshot.unwrap_or_else(|| {
            let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            panic!("the set does not compile:\n{}", problems.join("\n"))
        })
    }

    /// What is wrong with the set, one line each: errors as they are, warnings with that word in front.
    pub(crate) fn problems(&self) -> Vec<String> {
        let report = self.compile();
        let has_errors = report.problems.iter().any(|problem| problem.is_error());
        assert_eq!(
            report.snapshot.is_none(),
            has_errors,
            "a set compiles exactly if there are no errors"
        );
        let line = |problem: &countersign::model::PolicyProblem| match problem.severity {
            Severity::Error => problem.to_string(),
            Severity::Warning => format!("warning: {problem}"),
        };
        report.problems.iter().map(line).collect()
    }

    /// Everything there is, for a report of a failure.
    pub(crate) fn show(&self) -> String {
        let mut shown = String::new();
        for (path, bytes) in &self.files {
            let _ = write!(
                shown,
                "----- {path}\n{}\n",
                String::from_utf8_lossy(bytes).trim_end()
            );
        }
        shown
    }
}

/// An `approvals.toml` with one rule for each of `names`.
pub(crate) fn rules(names: &[&str]) -> String {
    let rule = |name: &&str| {
        format!(
            "[rule.{name}]\ntitle = \"{name}\"\napprovals = 1\nexpires_after = \"30m\"\nredeem_within = \"10m\"\n"
        )
    };
    names.iter().map(rule).collect()
}

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Ask(pub(crate) Request);

/// Asks whether `principal` may do `action` on `resource`; entities as Cedar writes them.
pub(crate) fn ask(principal: &str, action: &str, resource: &str) -> Ask {
    let request = Request::new(uid(principal), action, uid(resource), Record::default());
    Ask(request)
}

impl Ask {
    /// With a context, in Cedar's JSON.
    pub(crate) fn context(mut self, json: &serde_json::Value) -> Self {
        self.0.context = record(json);
        self
    }

    /// About another resource.
    pub(crate) fn on(mut self, resource: &str) -> Self {
        self.0.resource = uid(resource);
        self
    }

    /// With an entity described.
    pub(crate) fn describe(
        mut self,
        name: &str,
        attributes: &serde_json::Value,
        parents: &[&str],
    ) -> Self {
        self.0.entities.push(EntityDescription {
            uid: uid(name),
            attributes: record(attributes),
            parents: parents.iter().map(|parent| uid(parent)).collect(),
        });
        self
    }

    /// The decision on it; it must be well formed.
    pub(crate) fn decide(&self, snapshot: &Arc<Snapshot>) -> Decided {
        decide(snapshot, self.0.clone()).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The decision in words.
    pub(crate) fn words(&self, snapshot: &Arc<Snapshot>) -> String {
        words(&self.decide(snapshot))
    }

    /// Why it is refused.
    pub(crate) fn refusal(&self, snapshot: &Arc<Snapshot>) -> String {
        match decide(snapshot, self.0.clone()) {
            Ok(decided) => panic!("not refused, but {}", words(&decided)),
            Err(problem) => format!("{}: {}", problem.field, problem.message),
        }
    }

    /// The cache key.
    pub(crate) fn key(&self, snapshot: &Arc<Snapshot>) -> Vec<u8> {
        let prepared = snapshot
            .prepare(self.0.clone())
            .unwrap_or_else(|problem| panic!("{problem}"));
        let mut key = Vec::new();
        prepared.write_key(&mut key);
        key
    }
}

/// Decides with both engines, which must agree.
pub(crate) fn decide(
    snapshot: &Arc<Snapshot>,
    request: Request,
) -> Result<Decided, RequestProblem> {
    let prepared = snapshot.prepare(request)?;
    let plan = snapshot.plan(&prepared, NOW)?;
    let decided = plan.decide(Engine::Index);
    assert_eq!(
        decided,
        plan.decide(Engine::Full),
        "index and full evaluation differ"
    );
    Ok(decided)
}

/// A decision in one line: outcome, what determines it, and the policies that erred.
pub(crate) fn words(decided: &Decided) -> String {
    let ids = |ids: Vec<&str>| ids.join(",");
    let determining = ids(decided
        .determining
        .iter()
        .map(|policy| policy.id.as_str())
        .collect());
    let outcome = match &decided.outcome {
        Outcome::Allow => format!("ALLOW by {determining}"),
        Outcome::RequireApproval(requirements) => {
            let rules: Vec<String> = requirements
                .iter()
                .map(|each| format!("{}[{}]", each.rule.name, each.gates.join(",")))
                .collect();
            format!("REQUIRE_APPROVAL {}", rules.join(" "))
        }
        Outcome::Deny(DenyReason::Forbidden) => format!("DENY forbidden by {determining}"),
        Outcome::Deny(DenyReason::NoPermit) => "DENY no permit".to_owned(),
        Outcome::Deny(DenyReason::PolicyError) => "DENY policy error".to_owned(),
        Outcome::Deny(DenyReason::EntityMissing(missing)) => {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            format!("DENY missing {}", missing.join(","))
        }
    };
    if decided.errors.is_empty() {
        return outcome;
    }
    let errors = ids(decided
        .errors
        .iter()
        .map(|error| error.id.as_str())
        .collect());
    format!("{outcome}; errors {errors}")
}

pub(crate) fn uid(text: &str) -> EntityRef {
    parse_entity(text).unwrap_or_else(|| panic!("`{text}` is not an entity"))
}

pub(crate) fn record(json: &serde_json::Value) -> Record {
    match value(json) {
        Value::Record(record) => record,
        other => panic!("expected a record, got {other:?}"),
    }
}

/// A value from Cedar's JSON.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => panic!("Cedar has no null"),
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Long(number.as_i64().unwrap()),
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(values) => Value::Set(values.iter().map(value).collect()),
        serde_json::Value::Object(fields) => {
            let record = fields
                .iter()
                .map(|(name, field)| (name.clone(), value(field)))
                .collect();
            Value::Record(record).unescaped().unwrap()
        }
    }
}
