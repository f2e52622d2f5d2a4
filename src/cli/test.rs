//! `countersign test`.

use std::collections::BTreeMap;

use clap::Args;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;

use crate::model::{Effect, PolicyProblem};
use crate::policy::{CaseReport, CaseResult, CompileOptions, compile, run_cases};

use super::Outcome;
use super::arguments::{CompileArguments, DirArgument, deep, read_bundle};
use super::output::{BOLD, GREEN, RED, RESET, YELLOW, print, say};
use super::report::{counted, render, to_json};

/// How the results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TestFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For build servers.
    Junit,
}

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    #[command(flatten)]
    dir: DirArgument,
    #[command(flatten)]
    compile: CompileArguments,
    /// Fail unless cases exercise at least this many percent of the policies.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    require_coverage: Option<u8>,
    /// How the results are written.
    #[arg(long, value_enum, default_value = "text")]
    format: TestFormat,
}

/// Runs the cases of a policy directory.
pub(super) fn run(arguments: &TestArguments) -> anyhow::Result<Outcome> {
    let bundle = read_bundle(&arguments.dir.dir)?;
    let options = CompileOptions {
        run_cases: false,
        ..arguments.compile.to_options(&arguments.dir.dir)
    };
    let (compiled, report) = deep(|| {
        let compiled = compile(&bundle, &options);
        let report = compiled
            .snapshot
            .as_ref()
            .map(|snapshot| run_cases(snapshot, &bundle));
        (compiled, report)
    })?;
    let Some(report) = report else {
        for problem in compiled
            .problems
            .iter()
            .filter(|problem| problem.is_error())
        {
            say(&render(problem));
        }
        anyhow::bail!("the policies do not compile, so no case was run");
    };
    match arguments.format {
        TestFormat::Text => show(&report),
        TestFormat::Json => print(&serde_json::to_string_pretty(&as_json(&report))?),
        TestFormat::Junit => print(&as_junit(&report)?),
    }
    let coverage = report.coverage_percent();
    let wanted = arguments.require_coverage.map_or(0, usize::from);
    if coverage < wanted {
        say(&format!(
            "the cases exercise {coverage} % of the policies, less than {wanted} %"
        ));
    }
    let holds = report.problems().is_empty() && coverage >= wanted;
    Ok(if holds {
        Outcome::Success
    } else {
        Outcome::Findings
    })
}

fn show(report: &CaseReport) {
    for problem in report.problems() {
        print(&format!("{}\n", render(&problem)));
    }
    for (suite, results) in by_suite(report) {
        let failed = results
            .iter()
            .filter(|result| result.failure.is_some())
            .count();
        let mark = if failed == 0 {
            format!("{GREEN}ok{RESET}  ")
        } else {
            format!("{RED}FAIL{RESET}")
        };
        print(&format!(
            "{mark} {suite}: {} of {} hold",
            results.len().saturating_sub(failed),
            results.len()
        ));
    }
    let exercised = report.exercised.len();
    let all = exercised.saturating_add(report.unexercised.len());
    print(&format!(
        "{BOLD}coverage{RESET} {exercised} of {all} policies are satisfied by some case ({} %)",
        report.coverage_percent()
    ));
    for (id, effect, location) in &report.unexercised {
        print(&format!(
            "  {YELLOW}no case exercises{RESET} the {} `{id}` ({location})",
            effect_name(*effect)
        ));
    }
    let failed = report
        .results
        .iter()
        .filter(|result| result.failure.is_some())
        .count();
    print(&format!(
        "{} passed, {failed} failed",
        report.results.len().saturating_sub(failed)
    ));
    if !report.unreadable.is_empty() {
        print(&format!(
            "{} could not be read",
            counted(report.unreadable.len(), "file", "files")
        ));
    }
}

fn by_suite(report: &CaseReport) -> BTreeMap<&str, Vec<&CaseResult>> {
    let mut suites: BTreeMap<&str, Vec<&CaseResult>> = BTreeMap::new();
    for result in &report.results {
        suites.entry(&result.suite).or_default().push(result);
    }
    suites
}

fn effect_name(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
        Effect::Gate => "gate",
    }
}

fn as_json(report: &CaseReport) -> serde_json::Value {
    let results = report.results.iter().map(|result| {
        json!({
            "suite": result.suite,
            "name": result.name,
            "file": result.file,
            "passed": result.failure.is_none(),
            "problem": result.failure.as_ref().map(to_json),
        })
    });
    let unexercised = report.unexercised.iter().map(|(id, effect, location)| {
        json!({ "id": id, "effect": effect_name(*effect), "location": location })
    });
    json!({
        "results": results.collect::<Vec<_>>(),
        "unreadable": report.unreadable.iter().map(to_json).collect::<Vec<_>>(),
        "coverage": {
            "percent": report.coverage_percent(),
            "exercised": report.exercised,
            "unexercised": unexercised.collect::<Vec<_>>(),
        },
    })
}

fn as_junit(report: &CaseReport) -> anyhow::Result<String> {
    let mut junit = Report::new("countersign test");
    for (suite, results) in by_suite(report) {
        let mut test_suite = TestSuite::new(suite);
        test_suite.add_test_cases(results.into_iter().map(|result| {
            let status = match &result.failure {
                None => TestCaseStatus::success(),
                Some(problem) => failure(problem),
            };
            TestCase::new(result.name.clone(), status)
        }));
        junit.add_test_suite(test_suite);
    }
    for problem in &report.unreadable {
        let mut test_suite = TestSuite::new(problem.file.clone());
        test_suite.add_test_case(TestCase::new("the file can be read", failure(problem)));
        junit.add_test_suite(test_suite);
    }
    Ok(junit.to_string()?)
}

fn failure(problem: &PolicyProblem) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(problem.to_string());
    status
}
