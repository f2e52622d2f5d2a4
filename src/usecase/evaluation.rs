//! Evaluations that do not run on the serving thread.

use std::sync::Arc;

use crate::model::{Decided, DenyReason, Outcome};
use crate::policy::{Engine, Plan};

use super::active::ActiveSnapshot;
use super::authorize::AuthorizeError;

/// Evaluates on a thread of its own, where it stalls no other call.
pub(super) async fn evaluate_apart(
    active: &Arc<ActiveSnapshot>,
    plan: Plan,
    is_sampled: bool,
) -> Result<Decided, AuthorizeError> {
    let active = Arc::clone(active);
    let decide = move || {
        let decided = plan.decide(active.engine());
        if is_sampled {
            compare(&active, &plan, decided)
        } else {
            decided
        }
    };
    tokio::task::spawn_blocking(decide)
        .await
        .map_err(|_| AuthorizeError::EvaluationLost)
}

/// Evaluates again without the index. If the two disagree the request is denied and the index is not trusted any more.
fn compare(active: &ActiveSnapshot, plan: &Plan, decided: Decided) -> Decided {
    let reference = plan.decide(Engine::Full);
    if reference == decided {
        return decided;
    }
    active.distrust_index();
    tracing::error!(
        policy.version = %active.snapshot.version(),
        "the scope index disagrees with the full evaluation: the request is denied and the index is off"
    );
    Decided {
        outcome: Outcome::Deny(DenyReason::PolicyError),
        determining: Vec::new(),
        errors: reference.errors,
        // Not to be kept, whatever else is known of it.
        read_clock: true,
    }
}
