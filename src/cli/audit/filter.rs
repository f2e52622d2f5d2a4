//! Which records: the filter as flags.

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};

use crate::audit::filter::{EntityName, RecordFilter};
use crate::audit::proto::Outcome;
use crate::server::SystemClock;
use crate::usecase::ports::Clock as _;

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutcomeName {
    /// ALLOW.
    Allow,
    /// DENY.
    Deny,
    /// `REQUIRE_APPROVAL`.
    RequireApproval,
}

impl From<OutcomeName> for Outcome {
    fn from(name: OutcomeName) -> Self {
        match name {
            OutcomeName::Allow => Self::Allow,
            OutcomeName::Deny => Self::Deny,
            OutcomeName::RequireApproval => Self::RequireApproval,
        }
    }
}

#[derive(Debug, Default, Args)]
pub(super) struct FilterArguments {
    /// Only decisions about this principal, and approvals that it asked for: `Type::"id"`.
    #[arg(long, value_name = "ENTITY")]
    principal: Option<String>,
    /// Only this action, by its full or its short name.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only this resource: `Type::"id"`.
    #[arg(long, value_name = "ENTITY")]
    resource: Option<String>,
    /// Only decisions that answered so.
    #[arg(long, value_enum)]
    outcome: Option<OutcomeName>,
    /// Only what this approval took part in.
    #[arg(long, value_name = "ID")]
    approval: Option<String>,
    /// Only this decision, and the redemption by it.
    #[arg(long, value_name = "ID")]
    decision: Option<String>,
    /// Not before this: a time such as `2026-03-01T12:00:00Z`, or how long ago, such as `2h`.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this: a time, or how long ago.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only this log: `control`, or an incarnation.
    #[arg(long, value_name = "LOG")]
    log: Option<String>,
}

impl FilterArguments {
    /// The filter.
    pub(super) fn filter(&self) -> anyhow::Result<RecordFilter> {
        let now = SystemClock.now();
        let decision_id = self.decision.as_deref().map(|id| {
            id.parse()
                .with_context(|| format!("`--decision {id}` is not the id of a decision, a UUID"))
        });
        Ok(RecordFilter {
            principal: entity("principal", self.principal.as_deref())?,
            action: self.action.clone(),
            resource: entity("resource", self.resource.as_deref())?,
            outcome: self.outcome.map(Into::into),
            approval_id: self.approval.clone(),
            decision_id: decision_id.transpose()?,
            from_us: time("from", self.from.as_deref(), now)?,
            to_us: time("to", self.to.as_deref(), now)?,
            log: self.log.clone(),
        })
    }
}

fn entity(flag: &str, text: Option<&str>) -> anyhow::Result<Option<EntityName>> {
    let Some(text) = text else { return Ok(None) };
    let name = EntityName::parse(text);
    let name = name.ok_or_else(|| anyhow!("`--{flag} {text}` is not `Type::\"id\"`"))?;
    Ok(Some(name))
}

fn time(flag: &str, text: Option<&str>, now: Timestamp) -> anyhow::Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    let ago = || now.checked_sub(text.parse::<SignedDuration>().ok()?).ok();
    let time = text.parse::<Timestamp>().ok().or_else(ago);
    let time = time.ok_or_else(|| {
        anyhow!(
            "`--{flag} {text}` is no time: write `2026-03-01T12:00:00Z`, or `2h` for two hours ago"
        )
    })?;
    Ok(Some(time.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_how_long_ago() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let at = |text| time("from", Some(text), now).unwrap();
        assert_eq!(at("2026-03-01T10:00:00Z"), at("2h"));
        assert_eq!(at("2026-03-01T11:00:00+01:00"), at("2h"));
        assert!(time("from", Some("yesterday"), now).is_err());
        assert_eq!(time("from", None, now).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_is_said_with_its_flag() {
        let arguments = FilterArguments {
            principal: Some("alice".to_owned()),
            ..FilterArguments::default()
        };
        let complaint = arguments.filter().unwrap_err().to_string();
        assert_eq!(complaint, r#"`--principal alice` is not `Type::"id"`"#);
    }
}
