//! The policies and the people that most tests share.

/// The types.
pub(crate) const SCHEMA: &str = r"
entity Team;
entity User in [Team] { same_person_as?: Set<User> };
entity Agent in [Team] { owner?: User, owners?: Set<Agent> };
entity Service { env: String, size?: Long };
action Deploy, Restart appliesTo {
  principal: [User, Agent],
  resource: Service,
  context: {
    version: String,
    hosts?: Set<String>,
    share?: decimal,
    note?: String,
    now?: datetime,
  },
};
";

/// What needs approval, and who gives it.
pub(crate) const POLICIES: &str = r#"
@id("anyone-deploys")
permit (principal, action in [Action::"Deploy", Action::"Restart"], resource);

@id("prod-is-reviewed")
@description("Production needs a sign-off.")
@approval("prod")
forbid (principal, action in [Action::"Deploy", Action::"Restart"], resource)
when { resource.env == "prod" };
"#;

/// Who may approve.
pub(crate) const REVIEWERS: &str = r#"
@id("sre-approves")
permit (principal in Team::"sre", action == Countersign::Action::"Approve", resource)
when { context.rule == "prod" };

@id("directors-approve-late")
permit (principal in Team::"directors", action == Countersign::Action::"Approve", resource)
when { context.rule == "prod" && context.escalated };
"#;

/// What it takes.
pub(crate) const RULES: &str = r#"
[rule.prod]
title         = "Production"
approvals     = 2
expires_after = "30m"
redeem_within = "10m"
notify        = ["webhook:soc"]
"#;

/// Everybody, with the names in `same_person_as` and the teams. Those who stand behind requests are in the team of reviewers too, so
/// that only the floors keep them from approving.
pub(crate) const PEOPLE: [(&str, &[&str], &[&str]); 15] = [
    ("alice", &[], &["sre"]),
    ("bob", &[], &["sre"]),
    ("carol", &[], &["sre"]),
    // A person with two accounts, in two teams.
    ("dora", &[], &["sre"]),
    ("dora-admin", &["dora"], &["sre", "directors"]),
    ("dirk", &[], &["directors"]),
    ("eve", &[], &[]),
    // The owner of the agent, and another account of theirs.
    ("olive", &[], &["sre"]),
    ("olive-admin", &["olive"], &["sre"]),
    // On whose behalf agents act.
    ("paul", &[], &["sre"]),
    ("paul-admin", &["paul"], &["sre"]),
    ("pia", &[], &["sre"]),
    ("pia-admin", &["pia"], &["sre"]),
    // A person who asks for themselves.
    ("rita", &[], &["sre"]),
    ("rita-admin", &["rita"], &["sre"]),
];
