//! Runs decision cases and tells which policies they exercise.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::{Decided, Decision, DenyReason, Effect, Outcome, PolicyProblem, Request};

use super::bundle::{Bundle, FileKind};
use super::case_files::{ApproveAsked, Case, Expectation, ExpectedDecision, ExpectedReason, Suite};
use super::diagnostics::full_message;
use super::eligibility::{ApproveQuestion, Eligibility, NotEligible};
use super::engine::Engine;
use super::outcome::at_position;
use super::snapshot::Snapshot;

/// How every case of a bundle turned out.
#[derive(Clone, Debug, Default)]
pub struct CaseReport {
    /// One for each case, in the order of files and cases.
    pub results: Vec<CaseResult>,
    /// Files that could not be read as cases.
    pub unreadable: Vec<PolicyProblem>,
    /// The ids of the policies that some case satisfies.
    pub exercised: BTreeSet<String>,
    /// The policies that no case satisfies: id, effect and place.
    pub unexercised: Vec<(String, Effect, String)>,
}

impl CaseReport {
    /// Everything that keeps the cases from holding, as problems with their places.
    pub fn problems(&self) -> Vec<PolicyProblem> {
        let failures = self
            .results
            .iter()
            .filter_map(|result| result.failure.clone());
        self.unreadable.iter().cloned().chain(failures).collect()
    }

    /// How many of the policies some case satisfies, in percent, rounded down; 100 without policies.
    pub fn coverage_percent(&self) -> usize {
        let exercised = self.exercised.len();
        let all = exercised.saturating_add(self.unexercised.len());
        exercised
            .saturating_mul(100)
            .checked_div(all)
            .unwrap_or(100)
    }
}

/// How one case turned out.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The file's `suite`, or the file's path.
    pub suite: String,
    /// The case's name.
    pub name: String,
    /// The file.
    pub file: String,
    /// What does not hold; none if the case passed.
    pub failure: Option<PolicyProblem>,
}

/// Runs every case of `bundle` against `snapshot`.
pub fn run_cases(snapshot: &Snapshot, bundle: &Bundle) -> CaseReport {
    let mut report = CaseReport::default();
    let texts = bundle.texts(FileKind::Cases, &mut report.unreadable);
    for (path, text) in texts {
        match serde_saphyr::from_str::<Suite>(text) {
            Ok(suite) => run_suite(snapshot, path, text, suite, &mut report),
            Err(error) => {
                let problem = unreadable(path, text, &error);
                report
                    .unreadable
                    .push(problem.with_help("see `docs/policies.md` for the form of a case"));
            }
        }
    }
    let uncovered = snapshot
        .policies
        .iter()
        .filter(|policy| !report.exercised.contains(&policy.id));
    report.unexercised = uncovered
        .map(|policy| (policy.id.clone(), policy.effect, policy.location()))
        .collect();
    report
}

/// The reader's own words, without the place that it says among them.
fn unreadable(path: &str, text: &str, error: &serde_saphyr::Error) -> PolicyProblem {
    let message = error.without_snippet().to_string();
    let Some(location) = error.location() else {
        return PolicyProblem::error(path, message);
    };
    let (line, column) = (location.line(), location.column());
    let message = message.replace(&format!(" at line {line}, column {column}"), "");
    let to_u32 = |number| u32::try_from(number).unwrap_or(u32::MAX);
    PolicyProblem::error(path, message).at_line(text, to_u32(line), to_u32(column))
}

fn run_suite(snapshot: &Snapshot, path: &str, text: &str, suite: Suite, report: &mut CaseReport) {
    let suite_name = suite.suite.unwrap_or_else(|| path.to_owned());
    for case in suite.cases {
        let name = case.name.clone();
        let failure = run_case(snapshot, case, &mut report.exercised)
            .err()
            .map(|message| {
                let place = text.find(&name).unwrap_or(0);
                PolicyProblem::error(path, format!("the case `{name}` does not hold: {message}"))
                    .at_offset(text, place)
            });
        report.results.push(CaseResult {
            suite: suite_name.clone(),
            name,
            file: path.to_owned(),
            failure,
        });
    }
}

fn run_case(
    snapshot: &Snapshot,
    case: Case,
    exercised: &mut BTreeSet<String>,
) -> Result<(), String> {
    match (case.request, case.approve) {
        (Some(request), None) => {
            case.expect.check_for_request()?;
            let now = request.now.unwrap_or(Timestamp::UNIX_EPOCH);
            let decided = evaluate(snapshot, request.into_request()?, now, exercised)?;
            check_decision(&decided, &case.expect)
        }
        (None, Some(approve)) => {
            case.expect.check_for_approve()?;
            let expected = case
                .expect
                .eligible
                .ok_or("an `approve` case expects `eligible: true` or `false`")?;
            let refusal = refusal(snapshot, &approve.into_asked()?, exercised);
            match (expected, refusal) {
                (true, None) | (false, Some(_)) => Ok(()),
                (false, None) => Err("eligible is true".to_owned()),
                (true, Some(why)) => Err(format!("eligible is false: {why}")),
            }
        }
        (Some(_), Some(_)) | (None, None) => {
            Err("a case has either a `request` or an `approve`".to_owned())
        }
    }
}

/// Why the reviewer may not approve: because of the policies, or because of who is behind the request.
fn refusal(
    snapshot: &Snapshot,
    case: &ApproveAsked,
    exercised: &mut BTreeSet<String>,
) -> Option<String> {
    let eligibility = snapshot.eligibility(&ApproveQuestion {
        asked: &case.asked,
        reviewer: &case.reviewer,
        seat: &case.seat,
        is_escalated: case.is_escalated,
        now: Timestamp::UNIX_EPOCH,
    });
    match eligibility {
        Eligibility::Eligible { policies } => exercised.extend(policies),
        Eligibility::NotEligible { why } => {
            if let NotEligible::Forbidden { policies } = &why {
                exercised.extend(policies.iter().cloned());
            }
            return Some(why.to_string());
        }
    }
    match snapshot.requester_closure(&case.asked) {
        Ok(closure) => closure
            .contains(&case.reviewer)
            .map(|reason| format!("`{}` {reason}", case.reviewer)),
        Err(problem) => Some(full_message(&problem)),
    }
}

fn evaluate(
    snapshot: &Snapshot,
    request: Request,
    now: Timestamp,
    exercised: &mut BTreeSet<String>,
) -> Result<Decided, String> {
    let prepared = snapshot
        .prepare(request)
        .map_err(|problem| problem.to_string())?;
    let parts = snapshot
        .parts(&prepared, now)
        .map_err(|problem| problem.to_string())?;
    if snapshot.denies_missing(&parts) {
        return Ok(super::outcome::missing(
            parts.missing.clone(),
            parts.read_clock,
        ));
    }
    let findings = snapshot.findings(&parts, Engine::Index);
    let satisfied = findings
        .satisfied
        .iter()
        .filter_map(|at| at_position(&snapshot.policies, *at));
    exercised.extend(satisfied.map(|policy| policy.id.clone()));
    Ok(snapshot.conclude(&parts, findings))
}

fn check_decision(decided: &Decided, expect: &Expectation) -> Result<(), String> {
    let expected = expect
        .decision
        .ok_or("a `request` case expects a `decision`")?;
    let found = match decided.outcome.decision() {
        Decision::Allow => ExpectedDecision::Allow,
        Decision::Deny => ExpectedDecision::Deny,
        Decision::RequireApproval => ExpectedDecision::RequireApproval,
    };
    if found != expected {
        return Err(format!(
            "expected {}, got {}",
            name_of(expected),
            describe(decided)
        ));
    }
    if let (Some(expected), Outcome::Deny(reason)) = (expect.reason, &decided.outcome) {
        let found = match reason {
            DenyReason::Forbidden => ExpectedReason::Forbidden,
            DenyReason::NoPermit => ExpectedReason::NoPermit,
            DenyReason::PolicyError => ExpectedReason::PolicyError,
            DenyReason::EntityMissing(_) => ExpectedReason::EntityMissing,
        };
        if found != expected {
            return Err(format!(
                "expected another reason than the one found, {}",
                describe(decided)
            ));
        }
    }
    if let Some(expected) = &expect.rules {
        let found = match &decided.outcome {
            Outcome::RequireApproval(requirements) => requirements
                .iter()
                .map(|each| each.rule.name.clone())
                .collect(),
            Outcome::Allow | Outcome::Deny(_) => BTreeSet::new(),
        };
        check_names("rules", expected, &found)?;
    }
    if let Some(expected) = &expect.determining {
        let found = decided
            .determining
            .iter()
            .map(|policy| policy.id.clone())
            .collect();
        check_names("determining", expected, &found)?;
    }
    Ok(())
}

fn check_names(
    what: &str,
    expected: &BTreeSet<String>,
    found: &BTreeSet<String>,
) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let list = |names: &BTreeSet<String>| {
        names
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Err(format!(
        "expected {what} [{}], got [{}]",
        list(expected),
        list(found)
    ))
}

fn name_of(decision: ExpectedDecision) -> &'static str {
    match decision {
        ExpectedDecision::Allow => "ALLOW",
        ExpectedDecision::Deny => "DENY",
        ExpectedDecision::RequireApproval => "REQUIRE_APPROVAL",
    }
}

fn describe(decided: &Decided) -> String {
    let ids: Vec<&str> = decided
        .determining
        .iter()
        .map(|policy| policy.id.as_str())
        .collect();
    let by = if ids.is_empty() {
        String::new()
    } else {
        format!(" by {}", ids.join(", "))
    };
    let errors: Vec<String> = decided
        .errors
        .iter()
        .map(|error| format!("{}: {}", error.id, error.message))
        .collect();
    match &decided.outcome {
        Outcome::Allow => format!("ALLOW{by}"),
        Outcome::RequireApproval(_) => format!("REQUIRE_APPROVAL{by}"),
        Outcome::Deny(DenyReason::Forbidden) => format!("DENY{by}"),
        Outcome::Deny(DenyReason::NoPermit) => "DENY because no permit is satisfied".to_owned(),
        Outcome::Deny(DenyReason::PolicyError) => {
            format!("DENY because of errors: {}", errors.join("; "))
        }
        Outcome::Deny(DenyReason::EntityMissing(missing)) => {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            format!("DENY because of missing entities: {}", missing.join(", "))
        }
    }
}
