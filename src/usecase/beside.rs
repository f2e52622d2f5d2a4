//! What no policy reads of a request.

use std::collections::BTreeMap;

use crate::audit::decision_record;
use crate::model::{EntityRef, Mode, Request, TraceContext};
use crate::policy::Prepared;

/// The parts of a request that no policy reads. They stay out of the cache; an approval needs them.
#[derive(Debug)]
pub(super) struct Beside {
    caller: String,
    on_behalf_of: Vec<EntityRef>,
    request_id: Option<String>,
    justification: Option<String>,
    labels: BTreeMap<String, String>,
    trace: Option<TraceContext>,
    is_chain_verified: bool,
    mode: Mode,
}

impl Beside {
    pub(super) fn take(request: &mut Request) -> Self {
        Self {
            caller: std::mem::take(&mut request.caller),
            on_behalf_of: std::mem::take(&mut request.on_behalf_of),
            request_id: request.request_id.take(),
            justification: request.justification.take(),
            labels: std::mem::take(&mut request.labels),
            trace: request.trace.take(),
            is_chain_verified: request.is_chain_verified,
            mode: request.mode,
        }
    }

    pub(super) fn give_back(self, prepared: Prepared) -> Request {
        Request {
            caller: self.caller,
            on_behalf_of: self.on_behalf_of,
            request_id: self.request_id,
            justification: self.justification,
            labels: self.labels,
            trace: self.trace,
            is_chain_verified: self.is_chain_verified,
            ..prepared.into_request()
        }
    }

    /// Whether the caller will act on the answer.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// The same, for a record.
    pub(super) fn recorded(&self) -> decision_record::Beside<'_> {
        decision_record::Beside {
            caller: &self.caller,
            on_behalf_of: &self.on_behalf_of,
            request_id: self.request_id.as_deref(),
            justification: self.justification.as_deref(),
            labels: &self.labels,
            trace: self.trace,
            is_chain_verified: self.is_chain_verified,
            mode: self.mode,
        }
    }
}
