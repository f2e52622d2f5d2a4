//! Reads policies, templates and links; finds the gates.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::model::{Effect, PolicyProblem, Rule, Severity};

use super::cedar::{
    Annotation, AnyId, EntityUID, Loc, Policy, PolicyID, SlotId, Template, parse_policyset,
};
use super::diagnostics::{self, Lines, at_location, full_message, problems_of};
use super::guard::{self, Grammar};
use super::policies::{ActionScope, CompiledPolicy, Policies, Scope};

/// One link of `links/**/*.json`, in the Cedar CLI's format.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    template_id: String,
    #[serde(rename = "link_id")]
    id: String,
    args: BTreeMap<String, String>,
}

/// Reads every policy and link.
///
/// Problems are added to `problems`; what could be read is returned all the same, so that one run shows everything wrong.
pub(super) fn read(
    policy_files: &[(&str, &str)],
    link_files: &[(&str, &str)],
    rules: &BTreeMap<String, Arc<Rule>>,
    max_policies: usize,
    problems: &mut Vec<PolicyProblem>,
) -> Policies {
    let mut reader = Reader {
        policies: Policies::default(),
        places: HashMap::new(),
        template_lines: HashMap::new(),
        rules,
        problems,
    };
    for (path, text) in policy_files {
        reader.read_file(path, text);
    }
    for (path, text) in link_files {
        reader.read_links(path, text);
    }
    reader.refuse_unlinked_gates();
    let Reader {
        mut policies,
        problems,
        ..
    } = reader;
    if policies.compiled.len() > max_policies {
        let count = policies.compiled.len();
        problems.push(PolicyProblem::error(
            "",
            format!("there are {count} policies, more than {max_policies}"),
        ));
    }
    policies
        .compiled
        .sort_by(|left, right| left.id.cmp(&right.id));
    warn_unused_rules(&policies, rules, problems);
    policies
}

struct Reader<'r> {
    policies: Policies,
    /// Where each id was first given.
    places: HashMap<String, Place>,
    /// Where each template begins.
    template_lines: HashMap<PolicyID, u32>,
    rules: &'r BTreeMap<String, Arc<Rule>>,
    problems: &'r mut Vec<PolicyProblem>,
}

/// Where a policy stands. The line is counted only when somebody wants to read it: counting it for each of many policies would
/// take longer than reading them.
struct Place {
    file: Arc<str>,
    loc: Option<Loc>,
}

impl Place {
    fn of(file: &Arc<str>, loc: Option<&Loc>) -> Self {
        Self {
            file: Arc::clone(file),
            loc: loc.cloned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = at_location(
            PolicyProblem::error(self.file.as_ref(), ""),
            self.loc.as_ref(),
        );
        write!(f, "{}", self.file)?;
        if problem.line > 0 {
            write!(f, ":{}", problem.line)?;
        }
        Ok(())
    }
}

impl Reader<'_> {
    fn read_file(&mut self, path: &str, text: &str) {
        if let Err(problem) = guard::check_text(path, text, Grammar::Policies) {
            self.problems.push(problem);
            return;
        }
        let parsed = match parse_policyset(text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                self.problems.extend(problems_of(path, text, &errors));
                return;
            }
        };
        let file: Arc<str> = Arc::from(path);
        let lines = Lines::of(text);
        for template in parsed.templates() {
            let line = template.loc().map_or(0, |loc| lines.line_at(loc.start()));
            self.add_template((&file, line), template);
        }
        for (number, policy) in parsed.static_policies().enumerate() {
            let line = policy.loc().map_or(0, |loc| lines.line_at(loc.start()));
            self.add_static((&file, line), policy, number);
        }
    }

    fn add_static(&mut self, (file, line): (&Arc<str>, u32), policy: &Policy, number: usize) {
        let annotations = annotations_of(policy.annotations());
        let Some(id) = self.id_of(file, policy, &annotations, number) else {
            return;
        };
        let policy = policy.new_id(PolicyID::from_string(&id));
        self.add((file, line), policy, annotations);
    }

    fn add_template(&mut self, (file, line): (&Arc<str>, u32), template: &Template) {
        let annotations = annotations_of(template.annotations());
        let Some(id) = annotations.get("id").cloned() else {
            let problem =
                PolicyProblem::error(file.as_ref(), "a template without `@id` cannot be linked")
                    .with_help("give it an `@id(\"name\")`");
            self.report(problem, template.loc());
            return;
        };
        if !self.take_id(file, template.loc(), &id) {
            return;
        }
        let template = template.new_id(PolicyID::from_string(&id));
        self.template_lines.insert(template.id().clone(), line);
        self.policies
            .files
            .insert(template.id().clone(), Arc::clone(file));
        // The id was not taken, so the set has room for it.
        if let Err(error) = self.policies.set.add_template(template) {
            self.problems
                .push(PolicyProblem::error(file.as_ref(), full_message(&error)));
        }
    }

    /// The policy's `@id`, or for a permit without one a name made of file and position.
    fn id_of(
        &mut self,
        file: &Arc<str>,
        policy: &Policy,
        annotations: &BTreeMap<String, String>,
        number: usize,
    ) -> Option<String> {
        let loc = policy.loc();
        let id = match (annotations.get("id"), policy.effect()) {
            (Some(id), _) if id.is_empty() => {
                let problem = PolicyProblem::error(file.as_ref(), "`@id` is empty");
                self.report(problem.with_help("write `@id(\"name\")`"), loc);
                return None;
            }
            (Some(id), _) => id.clone(),
            (None, super::cedar::Effect::Forbid) => {
                let problem = PolicyProblem::error(file.as_ref(), "a forbid has no `@id`");
                let help = "give it an `@id(\"name\")`: denials and approvals are explained by it";
                self.report(problem.with_help(help), loc);
                return None;
            }
            (None, super::cedar::Effect::Permit) => {
                let problem = PolicyProblem::warning(file.as_ref(), "a permit has no `@id`");
                self.report(problem.with_help("give it an `@id(\"name\")`"), loc);
                format!("{file}#{}", number.saturating_add(1))
            }
        };
        self.take_id(file, loc, &id).then_some(id)
    }

    fn take_id(&mut self, file: &Arc<str>, loc: Option<&Loc>, id: &str) -> bool {
        if let Some(first) = self.places.get(id) {
            let message = format!("the id `{id}` is taken by the policy at {first}");
            let problem = PolicyProblem::error(file.as_ref(), message)
                .with_help("an id names one policy in the whole directory");
            self.report(problem, loc);
            return false;
        }
        self.places.insert(id.to_owned(), Place::of(file, loc));
        true
    }

    fn add(
        &mut self,
        (file, line): (&Arc<str>, u32),
        policy: Policy,
        mut annotations: BTreeMap<String, String>,
    ) {
        annotations.remove("id");
        self.warn_misspelt(file, &policy, &annotations);
        let Ok((effect, rule)) = self.gate_of(file, &policy, &annotations) else {
            return;
        };
        if let Err(error) = self.policies.set.add(policy.clone()) {
            self.problems
                .push(PolicyProblem::error(file.as_ref(), full_message(&error)));
            return;
        }
        self.policies
            .files
            .insert(policy.id().clone(), Arc::clone(file));
        let scopes = (
            Scope::of(policy.principal_constraint().into_inner()),
            Scope::of(policy.resource_constraint().into_inner()),
        );
        let (Some(principal), Some(resource)) = scopes else {
            let message = format!("the slots of `{}` are not filled", policy.id());
            self.problems
                .push(PolicyProblem::error(file.as_ref(), message));
            return;
        };
        self.policies.compiled.push(CompiledPolicy {
            // As written: Cedar displays an id with escapes.
            id: AsRef::<str>::as_ref(policy.id()).to_owned(),
            effect,
            principal,
            action: ActionScope::of(policy.action_constraint()),
            resource,
            condition: policy.non_scope_constraints_arc().cloned(),
            annotations: Arc::new(annotations),
            rule,
            file: Arc::clone(file),
            line,
            cedar: policy,
        });
    }

    /// Adds `problem` with its place.
    fn report(&mut self, problem: PolicyProblem, loc: Option<&Loc>) {
        let severity = problem.severity;
        diagnostics::add(self.problems, severity, || at_location(problem, loc));
    }

    /// What the policy does, and for a gate its rule.
    fn gate_of(
        &mut self,
        file: &Arc<str>,
        policy: &Policy,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(Effect, Option<Arc<Rule>>), ()> {
        let effect = policy.effect();
        let (message, help) = match (effect, annotations.get("approval")) {
            (super::cedar::Effect::Permit, None) => return Ok((Effect::Permit, None)),
            (super::cedar::Effect::Forbid, None) => return Ok((Effect::Forbid, None)),
            (super::cedar::Effect::Forbid, Some(name)) => match self.rules.get(name) {
                Some(rule) => return Ok((Effect::Gate, Some(Arc::clone(rule)))),
                None => (
                    format!(
                        "`@approval` names the rule `{name}`, which `approvals.toml` does not have"
                    ),
                    self.nearest_rule(name),
                ),
            },
            (super::cedar::Effect::Permit, Some(_)) => (
                format!(
                    "the permit `{}` carries `@approval`, which Cedar ignores on a permit",
                    policy.id()
                ),
                "a gate is a forbid: permit the action, and forbid what needs approval".to_owned(),
            ),
        };
        let problem = PolicyProblem::error(file.as_ref(), message).with_help(help);
        self.report(problem, policy.loc());
        Err(())
    }

    fn nearest_rule(&self, name: &str) -> String {
        let nearest = self
            .rules
            .keys()
            .map(|known| (strsim::osa_distance(known, name), known))
            .filter(|(distance, _)| *distance <= 3)
            .min();
        match nearest {
            Some((_, nearest)) => format!("did you mean `{nearest}`?"),
            None => format!("add `[rule.{name}]` to `approvals.toml`, or name one of its rules"),
        }
    }

    /// A misspelt `@approval` leaves an ordinary forbid: safe, and surely not meant.
    fn warn_misspelt(
        &mut self,
        file: &Arc<str>,
        policy: &Policy,
        annotations: &BTreeMap<String, String>,
    ) {
        for key in annotations.keys() {
            for known in ["approval", "id", "description"] {
                let distance = strsim::osa_distance(&key.to_lowercase(), known);
                if key != known && distance <= 2 && key.len() > 2 {
                    let problem = PolicyProblem::warning(
                        file.as_ref(),
                        format!("`@{key}` means nothing here"),
                    );
                    let problem = problem.with_help(format!("did you mean `@{known}`?"));
                    self.report(problem, policy.loc());
                }
            }
        }
    }

    fn read_links(&mut self, path: &str, text: &str) {
        let links: Vec<Link> = match serde_json::from_str(text) {
            Ok(links) => links,
            Err(error) => {
                let problem = PolicyProblem::error(path, error.to_string());
                self.problems.push(problem.at_line(
                    text,
                    to_u32(error.line()),
                    to_u32(error.column()),
                ));
                return;
            }
        };
        let file: Arc<str> = Arc::from(path);
        for link in links {
            if let Err(message) = self.add_link(&file, &link) {
                diagnostics::add(self.problems, Severity::Error, || {
                    let place = text.find(&format!("\"{}\"", link.id)).unwrap_or(0);
                    PolicyProblem::error(path, message).at_offset(text, place)
                });
            }
        }
    }

    fn add_link(&mut self, file: &Arc<str>, link: &Link) -> Result<(), String> {
        if link.id.is_empty() {
            return Err("a `link_id` is empty".to_owned());
        }
        if let Some(first) = self.places.get(&link.id) {
            return Err(format!(
                "the id `{}` is taken by the policy at {first}",
                link.id
            ));
        }
        let template_id = PolicyID::from_string(&link.template_id);
        let mut values = HashMap::new();
        for (slot, value) in &link.args {
            let slot = match slot.as_str() {
                "?principal" => SlotId::principal(),
                "?resource" => SlotId::resource(),
                _ => {
                    return Err(format!(
                        "link `{}` fills `{slot}`; slots are `?principal` and `?resource`",
                        link.id
                    ));
                }
            };
            let uid = value.parse::<EntityUID>().map_err(|error| {
                format!(
                    "link `{}`: `{value}` is not an entity: {}",
                    link.id,
                    full_message(&error)
                )
            })?;
            values.insert(slot, uid);
        }
        let template = self
            .policies
            .set
            .get_template_arc(&template_id)
            .filter(|template| !template.is_static())
            .ok_or_else(|| {
                format!(
                    "link `{}` names the template `{}`, which does not exist",
                    link.id, link.template_id
                )
            })?;
        let annotations = annotations_of(template.annotations());
        let policy = Template::link(template, PolicyID::from_string(&link.id), values)
            .map_err(|error| format!("link `{}`: {}", link.id, full_message(&error)))?;
        self.places.insert(link.id.clone(), Place::of(file, None));
        // The text of the policy stands where its template does.
        let file = self.policies.files.get(&template_id).unwrap_or(file);
        let line = self.template_lines.get(&template_id).copied().unwrap_or(0);
        self.add((&Arc::clone(file), line), policy, annotations);
        Ok(())
    }

    /// A gate that nobody linked gates nothing.
    fn refuse_unlinked_gates(&mut self) {
        for template in self.policies.set.templates() {
            let annotations = annotations_of(template.annotations());
            let links = self
                .policies
                .set
                .get_linked_policies(template.id())
                .map_or(0, Iterator::count);
            if links > 0 {
                continue;
            }
            let file = self
                .policies
                .files
                .get(template.id())
                .map_or("", |file| file.as_ref());
            let (severity, what) = if annotations.contains_key("approval") {
                (Severity::Error, "gate template")
            } else {
                (Severity::Warning, "template")
            };
            let problem = PolicyProblem {
                severity,
                ..PolicyProblem::error(
                    file,
                    format!(
                        "the {what} `{}` has no link, so it decides nothing",
                        template.id()
                    ),
                )
            };
            let problem = at_location(problem, template.loc());
            self.problems
                .push(problem.with_help("link it in `links/*.json`, or remove it"));
        }
    }
}

fn warn_unused_rules(
    policies: &Policies,
    rules: &BTreeMap<String, Arc<Rule>>,
    problems: &mut Vec<PolicyProblem>,
) {
    for name in rules.keys() {
        let used = policies
            .compiled
            .iter()
            .any(|policy| policy.rule.as_ref().is_some_and(|rule| rule.name == *name));
        if !used {
            let problem =
                PolicyProblem::warning("approvals.toml", format!("no gate uses the rule `{name}`"));
            problems.push(problem.with_help(format!(
                "write `@approval(\"{name}\")` on a forbid, or remove the rule"
            )));
        }
    }
}

fn annotations_of<'a>(
    annotations: impl Iterator<Item = (&'a AnyId, &'a Annotation)>,
) -> BTreeMap<String, String> {
    annotations
        .map(|(key, value)| (key.to_string(), value.val.to_string()))
        .collect()
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
