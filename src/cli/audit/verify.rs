//! `countersign audit verify`: checks an audit log without the server that wrote it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;

use crate::audit::note::VerifierKey;
use crate::audit::verify::{
    ControlFacts, Coverage, Finding, Findings, Given, Kind, Outside, Report, SILENCE_US, Severity,
    check_key_lines, conclude,
};
use crate::cli::Outcome;
use crate::cli::output::{complain, print, print_json};
use crate::cli::report::Format;

use super::verify_database::compare;
use super::verify_evidence::{check_place, open_evidence};
use super::verify_json::to_json;
use super::verify_logs::{Control, DecisionReading, read_control, read_selections};
use super::verify_source::Source;
use super::verify_text::to_text;

/// What stands in front of a verifier key's parts; a file with such a name is given with a path in front.
const VKEY_PLUS: char = '+';

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// An audit folder of a replica, or a bundle that was exported. All replicas of the cluster belong together.
    #[arg(required = true, value_name = "FOLDER|BUNDLE")]
    sources: Vec<PathBuf>,
    /// A key that the control log must rest on, or a file with such keys, one a line. May be given several times.
    #[arg(long = "key", value_name = "VKEY|FILE")]
    keys: Vec<String>,
    /// A file with heads of the control log that were kept elsewhere: signed checkpoints, each followed by an empty line.
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// The store of approvals, to be compared with the log: the path of an `SQLite` file, or a `PostgreSQL` URL.
    #[arg(long, value_name = "PATH|URL")]
    approvals: Option<String>,
    /// How the report is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What is verified.
#[derive(Debug, Default)]
pub struct VerifyInputs {
    /// Audit folders of replicas, or bundles.
    pub sources: Vec<PathBuf>,
    /// Keys that were pinned; none if nobody did.
    pub keys: Vec<VerifierKey>,
    /// Heads that were kept elsewhere, as their file holds them.
    pub heads: Option<String>,
    /// The store of approvals: a path or a URL. It is opened when the logs were read.
    pub approvals: Option<String>,
    /// Whether long work says how far it is.
    pub tells_progress: bool,
}

/// Verifies, and prints the report. Exit codes: 0 intact, 1 tampering, 2 incomplete, 3 it could not begin.
pub(super) fn run(arguments: &VerifyArguments) -> anyhow::Result<Outcome> {
    let report = inputs(arguments).and_then(|inputs| verify(&inputs));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Ok(Outcome::Usage);
        }
    };
    match arguments.format {
        Format::Text => print(&to_text(&report)),
        Format::Json => print_json(&serde_json::to_string_pretty(&to_json(&report))?),
    }
    Ok(match report.verdict() {
        Severity::Note => Outcome::Success,
        Severity::Tampering => Outcome::Findings,
        Severity::Incomplete => Outcome::CouldNotRun,
    })
}

fn inputs(arguments: &VerifyArguments) -> anyhow::Result<VerifyInputs> {
    let mut keys = Vec::new();
    for key in &arguments.keys {
        keys.extend(read_keys(key)?);
    }
    let heads = arguments.heads.as_deref().map(read_text).transpose()?;
    Ok(VerifyInputs {
        sources: arguments.sources.clone(),
        keys,
        heads,
        approvals: arguments.approvals.clone(),
        tells_progress: true,
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// The key that `text` is, or those in the file that it names.
fn read_keys(text: &str) -> anyhow::Result<Vec<VerifierKey>> {
    let path = Path::new(text);
    if text.matches(VKEY_PLUS).count() >= 2 && !path.exists() {
        let key = text.parse::<VerifierKey>();
        return Ok(vec![key.with_context(|| format!("`{text}` is no key"))?]);
    }
    let lines = read_text(path)?;
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Result<Vec<VerifierKey>, _> = lines.map(str::parse).collect();
    let keys = keys.with_context(|| format!("`{text}` holds something that is no key"))?;
    if keys.is_empty() {
        return Err(anyhow!("`{text}` holds no key"));
    }
    Ok(keys)
}

/// Verifies `inputs`.
///
/// # Errors
///
/// If it cannot begin: a path that is not there or cannot be read, a folder that is no audit folder, a bundle that is none.
pub fn verify(inputs: &VerifyInputs) -> anyhow::Result<Report> {
    if let Some(place) = &inputs.approvals {
        check_place(place)?;
    }
    let sources = inputs.sources.iter();
    let is_only = inputs.sources.len() == 1;
    let sources = sources.map(|path| Source::open(path, is_only, inputs.tells_progress));
    let sources: Vec<Source> = sources.collect::<anyhow::Result<_>>()?;
    // Decision logs that are there before the control log is read must be known to it.
    let there = logs_of(&sources)?;
    let mut control = ControlReading::read(&sources, inputs)?;
    let mut decisions = Vec::new();
    for name in logs_of(&sources)? {
        decisions.push(name.read(&sources, &there, &mut control.facts)?);
    }
    if decisions.iter().any(DecisionReading::is_doubtful) {
        // The server may have gone on: what is doubtful is judged again by what the control log says now.
        let earlier = std::mem::replace(&mut control, ControlReading::read(&sources, inputs)?);
        control.facts.go_on_from(&earlier.facts);
        let doubtful = decisions.extract_if(.., |each| each.is_doubtful());
        let mut again: BTreeSet<LogName> = doubtful.map(|each| LogName::of(&each)).collect();
        let known: BTreeSet<LogName> = decisions.iter().map(LogName::of).collect();
        again.extend(logs_of(&sources)?);
        for name in again.difference(&known) {
            decisions.push(name.read(&sources, &there, &mut control.facts)?);
        }
    }
    let mut report = Report::default();
    report.findings.absorb(control.findings);
    report.logs = control.logs;
    for reading in decisions {
        report.findings.absorb(reading.findings);
        report.logs.extend(reading.coverage);
    }
    let mut facts = control.facts;
    for source in &sources {
        read_selections(source, &mut facts, &mut report.findings)?;
    }
    let given = Given {
        has_keys: !inputs.keys.is_empty(),
        heads: inputs.heads.as_deref(),
        alive: alive(&sources, &control.copied_us, facts.last_us)?,
    };
    let label = control.longest.as_ref().map_or("control", Control::label);
    report.replicas = conclude(label, &facts, &given, &mut report.findings);
    report.approvals = facts.approvals.counts().clone();
    report.heads = facts.heads;
    report.cluster.clone_from(&facts.cluster);
    // The store is looked at last: it is never behind what was read of the logs.
    if let (Some(place), Some(log)) = (&inputs.approvals, &control.longest) {
        match open_evidence(place) {
            Ok(evidence) => {
                let counts = compare(evidence.as_ref(), &mut facts, log, &mut report.findings);
                report.database = Some(counts);
            }
            Err(error) => {
                let says = format!("the database cannot be read: {error:#}");
                let finding = Finding::new(Kind::DatabaseUnreadable, "database", says);
                report.findings.add(finding);
            }
        }
    }
    Ok(report)
}

/// A decision log of a source, which is named by its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LogName {
    source: usize,
    incarnation: String,
}

impl LogName {
    fn of(reading: &DecisionReading) -> Self {
        Self {
            source: reading.source,
            incarnation: reading.incarnation.clone(),
        }
    }

    /// Reads it; `there` are those that were there first.
    fn read(
        &self,
        sources: &[Source],
        there: &BTreeSet<Self>,
        control: &mut ControlFacts,
    ) -> anyhow::Result<DecisionReading> {
        let source = sources.get(self.source).context("no such source")?;
        let is_new = !there.contains(self);
        let names = (self.incarnation.as_str(), is_new);
        DecisionReading::read((self.source, source), names, control)
    }
}

/// The decision logs of all sources.
fn logs_of(sources: &[Source]) -> anyhow::Result<BTreeSet<LogName>> {
    let mut names = BTreeSet::new();
    for (source, each) in sources.iter().enumerate() {
        let incarnations = each.incarnations()?.into_iter();
        names.extend(incarnations.map(|incarnation| LogName {
            source,
            incarnation,
        }));
    }
    Ok(names)
}

/// The newest start of each replica whose copy of the control log has what was written lately, and the newest of all.
fn alive(
    sources: &[Source],
    copied_us: &[Option<i64>],
    last_us: i64,
) -> anyhow::Result<BTreeSet<String>> {
    let mut alive = BTreeSet::new();
    let mut newest = None;
    for (source, copied) in sources.iter().zip(copied_us) {
        // Incarnations are UUIDs of version 7, so the last is the newest.
        let last = source.incarnations()?.pop();
        if copied.is_some_and(|copied| copied.saturating_add(SILENCE_US) >= last_us) {
            alive.extend(last.clone());
        }
        newest = newest.max(last);
    }
    alive.extend(newest);
    Ok(alive)
}

/// What all copies of the control log say.
#[derive(Debug)]
struct ControlReading {
    facts: ControlFacts,
    findings: Findings,
    logs: Vec<Coverage>,
    longest: Option<Control>,
    /// When the last record of each source's copy was written.
    copied_us: Vec<Option<i64>>,
}

impl ControlReading {
    /// Reads all copies, and replays the longest.
    fn read(sources: &[Source], inputs: &VerifyInputs) -> anyhow::Result<Self> {
        let mut reading = Self {
            facts: ControlFacts::default(),
            findings: Findings::default(),
            logs: Vec::new(),
            longest: None,
            copied_us: vec![None; sources.len()],
        };
        let mut copies = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            let copy = Control::open(source, &mut reading.findings)?;
            copies.extend(copy.map(|copy| (number, copy)));
        }
        // The longest last: it must go on where the others end.
        copies.sort_by_key(|(_, copy)| copy.size());
        if let Some((number, longest)) = copies.pop() {
            reading.read_copies(&copies, (number, &longest), inputs)?;
            reading.longest = Some(longest);
        }
        Ok(reading)
    }

    fn read_copies(
        &mut self,
        copies: &[(usize, Control)],
        (number, longest): (usize, &Control),
        inputs: &VerifyInputs,
    ) -> anyhow::Result<()> {
        let outside = Outside {
            pinned: inputs.keys.clone(),
            heads: inputs.heads.clone(),
        };
        let mut others = Vec::new();
        for (number, copy) in copies {
            let (facts, end, coverage) = read_control(copy, None, &[], &mut self.findings)?;
            others.push((copy.label().to_owned(), end));
            self.logs.push(coverage);
            self.set_copied(*number, facts.last_us);
        }
        let (facts, _, coverage) =
            read_control(longest, Some(outside), &others, &mut self.findings)?;
        self.logs.push(coverage);
        self.set_copied(number, facts.last_us);
        // A copy that is behind may have been begun with a key that its own records do not tell of yet.
        for copy in copies.iter().map(|(_, copy)| copy).chain([longest]) {
            check_key_lines(
                copy.label(),
                copy.key_lines(),
                &facts.keys,
                &mut self.findings,
            );
        }
        self.facts = facts;
        Ok(())
    }

    fn set_copied(&mut self, source: usize, at_us: i64) {
        if let Some(copied) = self.copied_us.get_mut(source) {
            *copied = Some(at_us);
        }
    }
}
