//! `countersign check`.

use clap::Args;
use serde_json::json;

use crate::model::PolicyProblem;
use crate::policy::{CompileOptions, CompileReport, compile};

use super::Outcome;
use super::arguments::{CompileArguments, DirArgument, deep, read_bundle};
use super::output::{GREEN, RESET, print, say};
use super::report::{Format, counted, render, to_json};

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    dir: DirArgument,
    #[command(flatten)]
    compile: CompileArguments,
    /// Take warnings for errors.
    #[arg(long)]
    deny_warnings: bool,
    /// Show which context attributes can change each action's decisions; they make up the cache key.
    #[arg(long)]
    keys: bool,
    /// How the report is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Checks a policy directory without running its cases.
pub(super) fn run(arguments: &CheckArguments) -> anyhow::Result<Outcome> {
    let bundle = read_bundle(&arguments.dir.dir)?;
    let options = CompileOptions {
        run_cases: false,
        ..arguments.compile.to_options(&arguments.dir.dir)
    };
    let report = deep(|| compile(&bundle, &options))?;
    match arguments.format {
        Format::Text => show(&report, arguments.keys),
        Format::Json => print(&serde_json::to_string_pretty(&as_json(&report))?),
    }
    let has_errors = report.problems.iter().any(PolicyProblem::is_error);
    let is_refused = has_errors || (arguments.deny_warnings && !report.problems.is_empty());
    Ok(if is_refused {
        Outcome::Findings
    } else {
        Outcome::Success
    })
}

fn show(report: &CompileReport, keys: bool) {
    for problem in &report.problems {
        print(&format!("{}\n", render(problem)));
    }
    let Some(snapshot) = &report.snapshot else {
        let errors = report
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .count();
        say(&counted(errors, "error", "errors"));
        return;
    };
    let info = snapshot.info();
    print(&format!(
        "{GREEN}ok{RESET} {} {}, {}, {}; {}, {}; posture {}, validation {}",
        info.version,
        counted(info.permits, "permit", "permits"),
        counted(info.forbids, "forbid", "forbids"),
        counted(info.gates, "gate", "gates"),
        counted(info.rules, "rule", "rules"),
        counted(info.entities, "entity", "entities"),
        info.posture,
        info.validation,
    ));
    if keys {
        for (action, names) in snapshot.relevant_context() {
            print(&format!(
                "  {action}: {}",
                if names.is_empty() {
                    "-".to_owned()
                } else {
                    names.join(", ")
                }
            ));
        }
    }
}

fn as_json(report: &CompileReport) -> serde_json::Value {
    let info = report.snapshot.as_ref().map(|snapshot| snapshot.info());
    json!({
        "version": report.version.as_str(),
        "ok": info.is_some(),
        "permits": info.map(|info| info.permits),
        "forbids": info.map(|info| info.forbids),
        "gates": info.map(|info| info.gates),
        "rules": info.map(|info| info.rules),
        "entities": info.map(|info| info.entities),
        "relevant_context": report.snapshot.as_ref().map(|snapshot| snapshot.relevant_context()),
        "problems": report.problems.iter().map(to_json).collect::<Vec<_>>(),
    })
}
