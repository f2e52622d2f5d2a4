//! Reads `approvals.toml`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::model::{PolicyProblem, Quorum, Rule, RuleRequirement};

const MAX_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_PERSONS: u32 = 50;
const KNOWN_CHANNELS: [&str; 4] = ["slack", "teams", "webhook", "email"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: BTreeMap<String, toml::Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    title: String,
    approvals: Option<toml::Spanned<u32>>,
    slots: Option<BTreeMap<String, toml::Spanned<u32>>>,
    expires_after: toml::Spanned<String>,
    redeem_within: toml::Spanned<String>,
    #[serde(default)]
    require: Vec<toml::Spanned<String>>,
    #[serde(default)]
    notify: Vec<toml::Spanned<String>>,
    remind_after: Option<toml::Spanned<String>>,
    escalate_after: Option<toml::Spanned<String>>,
    escalate_to: Option<toml::Spanned<Vec<toml::Spanned<String>>>>,
}

/// The rules of `text`, by name.
///
/// # Errors
/// Every problem found, each with its place.
pub(super) fn parse(
    file: &str,
    text: &str,
) -> Result<BTreeMap<String, Arc<Rule>>, Vec<PolicyProblem>> {
    let parsed: File = toml::from_str(text).map_err(|error| {
        let problem = PolicyProblem::error(file, error.message());
        vec![match error.span() {
            Some(span) => problem.at_offset(text, span.start),
            None => problem,
        }]
    })?;
    let mut reader = Reader {
        file,
        text,
        problems: Vec::new(),
    };
    let mut rules = BTreeMap::new();
    for (name, entry) in parsed.rule {
        let place = entry.span().start;
        if let Some(rule) = reader.rule(&name, entry.into_inner(), place) {
            rules.insert(name, Arc::new(rule));
        }
    }
    if reader.problems.is_empty() {
        Ok(rules)
    } else {
        Err(reader.problems)
    }
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<PolicyProblem>,
}

impl Reader<'_> {
    fn refuse(&mut self, place: usize, message: impl Into<String>, help: &str) {
        self.problems.push(
            PolicyProblem::error(self.file, message)
                .at_offset(self.text, place)
                .with_help(help),
        );
    }

    fn rule(&mut self, name: &str, entry: Entry, place: usize) -> Option<Rule> {
        let quorum = self.quorum(name, entry.approvals, entry.slots, place);
        let expires_after = self.duration(name, "expires_after", &entry.expires_after);
        let redeem_within = self.duration(name, "redeem_within", &entry.redeem_within);
        let require = entry
            .require
            .iter()
            .filter_map(|word| self.requirement(name, word))
            .collect();
        let notify = self.channels(name, &entry.notify);
        let mut timer = |key, text: &Option<_>| self.timer(name, key, text.as_ref(), expires_after);
        let remind_after = timer("remind_after", &entry.remind_after);
        let escalate_after = timer("escalate_after", &entry.escalate_after);
        let escalate_to = match &entry.escalate_to {
            Some(channels) => {
                if entry.escalate_after.is_none() {
                    let message =
                        format!("rule `{name}` has `escalate_to` and no `escalate_after`");
                    self.refuse(
                        channels.span().start,
                        message,
                        "say when, such as `escalate_after = \"15m\"`",
                    );
                }
                self.channels(name, channels.get_ref())
            }
            None => Vec::new(),
        };
        if entry.title.trim().is_empty() {
            self.refuse(
                place,
                format!("rule `{name}` has an empty title"),
                "say what reviewers are asked to approve",
            );
        }
        Some(Rule {
            name: name.to_owned(),
            title: entry.title,
            quorum: quorum?,
            expires_after: expires_after?,
            redeem_within: redeem_within?,
            require,
            notify,
            remind_after,
            escalate_after,
            escalate_to,
        })
    }

    fn quorum(
        &mut self,
        name: &str,
        approvals: Option<toml::Spanned<u32>>,
        slots: Option<BTreeMap<String, toml::Spanned<u32>>>,
        place: usize,
    ) -> Option<Quorum> {
        const HELP: &str = "write either `approvals = 2` or `slots = { sre = 1, security = 1 }`";
        match (approvals, slots) {
            (Some(count), None) => self.count(name, "approvals", &count).map(Quorum::Persons),
            (None, Some(slots)) if !slots.is_empty() => {
                let mut seats = BTreeMap::new();
                for (slot, count) in slots {
                    let count = self.count(name, &format!("slots.{slot}"), &count)?;
                    seats.insert(slot, count);
                }
                Some(Quorum::Slots(seats))
            }
            (None, _) => {
                self.refuse(
                    place,
                    format!("rule `{name}` does not say who must approve"),
                    HELP,
                );
                None
            }
            (Some(_), Some(_)) => {
                self.refuse(
                    place,
                    format!("rule `{name}` has both `approvals` and `slots`"),
                    HELP,
                );
                None
            }
        }
    }

    fn count(&mut self, name: &str, key: &str, count: &toml::Spanned<u32>) -> Option<NonZeroU32> {
        let value = *count.get_ref();
        let valid = NonZeroU32::new(value).filter(|_| value <= MAX_PERSONS);
        if valid.is_none() {
            let message = format!("`{key}` of rule `{name}` is {value}");
            self.refuse(
                count.span().start,
                message,
                &format!("write a number from 1 to {MAX_PERSONS}"),
            );
        }
        valid
    }

    fn duration(
        &mut self,
        name: &str,
        key: &str,
        text: &toml::Spanned<String>,
    ) -> Option<Duration> {
        let parsed = text.get_ref().parse::<SignedDuration>().ok();
        let duration = parsed
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero() && *duration <= MAX_WAIT);
        if duration.is_none() {
            let message = format!("`{key}` of rule `{name}` is `{}`", text.get_ref());
            self.refuse(
                text.span().start,
                message,
                "write a time from \"1s\" to \"720h\", such as \"30m\"",
            );
        }
        duration
    }

    /// A time within the wait for votes; none if it is not set, or is refused.
    fn timer(
        &mut self,
        name: &str,
        key: &str,
        text: Option<&toml::Spanned<String>>,
        expires_after: Option<Duration>,
    ) -> Option<Duration> {
        let text = text?;
        let after = self.duration(name, key, text)?;
        if expires_after.is_some_and(|expires_after| after >= expires_after) {
            let message = format!(
                "`{key}` of rule `{name}` is `{}`, not shorter than `expires_after`",
                text.get_ref()
            );
            self.refuse(
                text.span().start,
                message,
                "an approval that has expired reminds nobody and is not escalated",
            );
            return None;
        }
        Some(after)
    }

    fn channels(&mut self, name: &str, channels: &[toml::Spanned<String>]) -> Vec<String> {
        channels
            .iter()
            .filter_map(|channel| self.channel(name, channel))
            .collect()
    }

    fn requirement(&mut self, name: &str, word: &toml::Spanned<String>) -> Option<RuleRequirement> {
        if word.get_ref() == RuleRequirement::Justification.as_str() {
            return Some(RuleRequirement::Justification);
        }
        let message = format!(
            "rule `{name}` requires `{}`, which no request carries",
            word.get_ref()
        );
        self.refuse(
            word.span().start,
            message,
            "the only word known here is \"justification\"",
        );
        None
    }

    fn channel(&mut self, name: &str, channel: &toml::Spanned<String>) -> Option<String> {
        let known = channel
            .get_ref()
            .split_once(':')
            .is_some_and(|(kind, target)| KNOWN_CHANNELS.contains(&kind) && !target.is_empty());
        if known {
            return Some(channel.get_ref().clone());
        }
        let message = format!("rule `{name}` notifies `{}`", channel.get_ref());
        self.refuse(
            channel.span().start,
            message,
            "write a kind and a target, such as \"slack:#prod-approvals\", \"teams:prod\", \"webhook:soc\" or \"email:ops\"",
        );
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let problems = parse("approvals.toml", text).unwrap_err();
        problems[0].to_string()
    }

    const GOOD: &str = "[rule.a]\ntitle = \"A\"\napprovals = 2\nexpires_after = \"30m\"\nredeem_within = \"1h 30m\"\n";

    #[test]
    fn a_rule_is_read() {
        let rules = parse("approvals.toml", GOOD).unwrap();
        assert_eq!(rules["a"].quorum.persons(), 2);
        assert_eq!(rules["a"].redeem_within, Duration::from_secs(5400));
    }

    #[test]
    fn an_unknown_key_is_refused_at_its_line() {
        assert!(
            problem(&format!("{GOOD}quorum = 3\n"))
                .starts_with("approvals.toml:6:1: unknown field `quorum`")
        );
    }

    #[test]
    fn a_rule_without_a_quorum_is_refused() {
        assert!(
            problem(&GOOD.replace("approvals = 2\n", "")).contains("does not say who must approve")
        );
    }

    #[test]
    fn nobody_cannot_approve() {
        assert!(
            problem(&GOOD.replace("approvals = 2", "approvals = 0"))
                .starts_with("approvals.toml:3:13: `approvals` of rule `a` is 0")
        );
    }

    #[test]
    fn a_wait_of_nothing_or_of_years_is_refused() {
        assert!(
            problem(&GOOD.replace("30m\"\nr", "0s\"\nr"))
                .contains("`expires_after` of rule `a` is `0s`")
        );
        assert!(problem(&GOOD.replace("30m\"\nr", "9999h\"\nr")).contains("9999h"));
    }

    #[test]
    fn reminder_and_escalation_are_read() {
        let text = format!(
            "{GOOD}remind_after = \"10m\"\nescalate_after = \"15m\"\nescalate_to = [\"webhook:soc\"]\n"
        );
        let rules = parse("approvals.toml", &text).unwrap();
        assert_eq!(rules["a"].remind_after, Some(Duration::from_secs(600)));
        assert_eq!(rules["a"].escalate_after, Some(Duration::from_secs(900)));
        assert_eq!(rules["a"].escalate_to, ["webhook:soc"]);
        assert_eq!(
            parse("approvals.toml", GOOD).unwrap()["a"].remind_after,
            None
        );
    }

    #[test]
    fn reminder_and_escalation_come_before_the_end() {
        for key in ["remind_after", "escalate_after"] {
            let expected = format!(
                "approvals.toml:6:{}: `{key}` of rule `a` is `30m`, not shorter than `expires_after`",
                key.len() + 4
            );
            let text = format!("{GOOD}{key} = \"30m\"\n");
            assert!(problem(&text).starts_with(&expected), "{}", problem(&text));
        }
    }

    #[test]
    fn nobody_is_escalated_to_at_no_time() {
        let text = format!("{GOOD}escalate_to = [\"webhook:soc\"]\n");
        assert!(problem(&text).starts_with(
            "approvals.toml:6:15: rule `a` has `escalate_to` and no `escalate_after`"
        ));
        let text = format!("{GOOD}escalate_after = \"15m\"\nescalate_to = [\"soc\"]\n");
        assert!(problem(&text).contains("rule `a` notifies `soc`"));
    }

    #[test]
    fn a_rule_has_a_seat_for_each_slot_or_one_without_a_name() {
        let seats = |text: &str| -> Vec<(String, u32)> {
            let rules = parse("approvals.toml", text).unwrap();
            let seats = rules["a"].seats().into_iter();
            seats
                .map(|(seat, count)| (seat.slot, count.get()))
                .collect()
        };
        assert_eq!(seats(GOOD), [(String::new(), 2)]);
        let slots = GOOD.replace("approvals = 2", "slots = { sre = 1, security = 3 }");
        assert_eq!(
            seats(&slots),
            [("security".to_owned(), 3), ("sre".to_owned(), 1)]
        );
    }
}
