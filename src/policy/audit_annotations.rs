//! `@audit_drop` and `@audit_hmac`: what policies keep out of the audit log.

use crate::model::{PolicyProblem, Redaction, Redactions};

use super::policies::CompiledPolicy;

/// The annotations, with what they ask for.
const ANNOTATIONS: [(&str, Redaction); 2] = [
    ("audit_drop", Redaction::Drop),
    ("audit_hmac", Redaction::Hmac),
];

/// What `policies` keep out of the log. It holds for every request, whether or not the policy that says so applies to it.
pub(super) fn read(policies: &[CompiledPolicy], problems: &mut Vec<PolicyProblem>) -> Redactions {
    let mut redactions = Redactions::default();
    for policy in policies {
        for (name, redaction) in ANNOTATIONS {
            let Some(list) = policy.annotations.get(name) else {
                continue;
            };
            if let Err(error) = redactions.add(list, redaction) {
                let message = format!("policy `{}`: `@{name}`: {error}", policy.id);
                let mut problem = PolicyProblem::error(policy.file.as_ref(), message).with_help(
                    "name values as `context.NAME` or `EntityType.NAME`, several separated by commas",
                );
                problem.line = policy.line;
                problems.push(problem);
            }
        }
    }
    redactions
}
